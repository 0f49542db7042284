from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect_aws import AwsCredentials
from pydantic import SecretStr

from blocks import (
    BackupStore,
    GitRepository,
    Pager,
    PostgresServer,
    SandboxProfile,
    checks,
    documents,
    lookup,
)
from blocks.__main__ import main
from flowforge import prefect_api
from flowforge.engines.agent.sources_access import Access, TokenAccess
from flowforge.engines.postgres import cluster, installations
from flowforge.engines.postgres.connection import connect
from flowforge.engines.sandboxes.local import LocalProvider
from flowforge.errors import Refused
from flowforge.rules.addresses import FolderAddress, S3Address
from flowforge.rules.jobs.profiles import DEFAULT, Profile
from tests.prefect_server import run_module
from tests.receivers import receive_posts

URL = "postgresql://shop:very-secret@127.0.0.1:1/shop"


@pytest.fixture(autouse=True)
def server(prefect_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The session's server, without a document of ours before and after."""
    monkeypatch.setenv("PREFECT_API_URL", prefect_url)
    yield prefect_url
    with prefect_api.connect() as client:
        for kind in documents.KINDS:
            for name in documents.read_blocks(client, kind):
                documents.remove(client, kind, name)


def apply(request: object) -> list[tuple[str, str, str, tuple[str, ...]]]:
    wanted = documents.read_request(request)
    with prefect_api.connect() as client:
        return [
            (one.kind, one.name, one.action, one.fields) for one in documents.apply(client, wanted)
        ]


def document(url: str, slug: str, name: str) -> dict[str, Any]:
    place = f"{url}/block_types/slug/{slug}/block_documents/name/{name}"
    found: dict[str, Any] = httpx.get(place).raise_for_status().json()
    return found


def test_what_is_applied_twice_is_written_once(server: str) -> None:
    request = {
        "servers": {"shop": URL},
        "stores": {"backups": {"folder": "/srv/backups"}},
        "pagers": {"ops": {"kind": "slack", "url": "https://hooks.example.org/secret"}},
    }

    first, second = apply(request), apply(request)

    assert [one[2] for one in first] == ["created"] * 3
    assert [one[2] for one in second] == ["unchanged"] * 3
    stored = document(server, "flowforge-postgres-server", "shop")
    assert stored["data"]["user"] == "shop"
    assert "very-secret" not in json.dumps(stored)


def test_a_redis_is_saved_by_its_url_and_shown_without_it(server: str) -> None:
    url = "rediss://copier:very-secret@cache.example:7000?ssl_ca_certs=/ca.pem"

    assert apply({"caches": {"cache": url}})[0][2] == "created"

    with prefect_api.connect() as client:
        block = documents.read_one(client, "cache", "cache")
    assert documents.where(block) == "copier@cache.example:7000 (TLS)"
    shown = f"{documents.fields_without_secrets(block)}"
    assert "very-secret" not in shown


def test_a_profile_that_is_saved_is_known_beside_the_one_that_needs_no_document(
    server: str,
) -> None:
    wanted = {"kind": "kubernetes", "namespace": "boxes", "cpus": 2, "egress": ["Lib.Example"]}
    labels = {"node_selector": {"pool": "jobs"}}

    assert apply({"profiles": {"boxes": {**wanted, **labels}}})[0][2] == "created"
    assert apply({"profiles": {"boxes": {**wanted, **labels}}})[0][2] == "unchanged"

    with prefect_api.connect() as client:
        known = lookup.find_profiles()
        default = documents.read_one(client, "profile", "default")
        told = documents.where(documents.read_one(client, "profile", "boxes"))
    assert sorted(known) == ["boxes", "default"]
    boxes = known["boxes"]
    assert isinstance(boxes, Profile) and isinstance(default, SandboxProfile)
    assert (boxes.where, boxes.cpus, boxes.egress) == ("kubernetes in boxes", 2, ("lib.example",))
    assert boxes.node_selector == {"pool": "jobs"}
    assert default.profile("default") == known["default"] == DEFAULT
    assert told.startswith("kubernetes in boxes: up to 2 CPUs, 8192 MB of memory")


def test_what_opens_a_repository_is_found_also_inside_an_event_loop(server: str) -> None:
    async def find() -> Access:
        return lookup.find_git_access("forge")

    with prefect_api.connect():
        GitRepository(token=SecretStr("a-token")).save("forge")
        assert asyncio.run(find()) == TokenAccess("a-token")
        GitRepository.delete("forge")


def test_a_sandbox_is_made_for_a_trial() -> None:
    if why := LocalProvider().why_not():
        pytest.skip(str(why))
    found = checks.check_profile("small", SandboxProfile(cpus=0.5, memory_mb=64, disk_mb=16))
    assert str(found["says"]).startswith("Linux")
    assert found["problems"] == []


def test_what_is_saved_in_the_ui_alone_has_its_type_there(server: str) -> None:
    apply({})
    kinds = ("claude-account", "egress-secret", "git-access", "sandbox-profile")
    for slug in (f"flowforge-{kind}" for kind in kinds):
        assert httpx.get(f"{server}/block_types/slug/{slug}").is_success


def test_a_changed_secret_is_noticed_and_others_stay(server: str) -> None:
    apply({"servers": {"shop": URL, "other": URL}})

    changed = apply({"servers": {"shop": URL.replace("very-secret", "new")}})

    assert changed == [("server", "shop", "updated", ("password",))]
    assert document(server, "flowforge-postgres-server", "other")
    with prefect_api.connect() as client:
        block = documents.read_one(client, "server", "shop")
    assert isinstance(block, PostgresServer)
    assert block.password.get_secret_value() == "new"


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ([], "not an object"),
        ({"server": {}}, "unknown kinds: server"),
        ({"servers": {"Shop!": URL}}, "is not a server name"),
        ({"servers": {"shop": {"url": URL}}}, "was not given as a URL"),
        ({"caches": {"cache": {"url": URL}}}, "was not given as a URL"),
        ({"caches": {"cache": URL}}, "not of a kind FlowForge knows"),
        ({"servers": {"shop": "mysql://a:very-secret@b/c"}}, "not a PostgreSQL URL"),
        ({"stores": {"s": {"folder": "relative"}}}, "not absolute"),
        ({"stores": {"s": {"path": "/x"}}}, "unknown fields: path"),
        ({"stores": {"s": {}}}, "either a folder or a bucket"),
        ({"stores": {"s": {"folder": "/x", "bucket": "b"}}}, "either a folder or a bucket"),
        ({"stores": {"s": {"bucket": "b", "access_key_id": "very-secret"}}}, "belong together"),
        ({"stores": {"s": {"bucket": "b", "recipients": ["very-secret"]}}}, "age public key"),
        ({"stores": {"s": {"bucket": "b", "lock_days": 0}}}, "lock_days"),
        ({"pagers": {"p": {"kind": "slack"}}}, "needs url"),
        ({"pagers": {"p": {"kind": "smtp", "password": "very-secret"}}}, "host, sender"),
        ({"pagers": {"p": "https://very-secret"}}, "not usable"),
        ({"profiles": {"p": {"cpu": 1}}}, "unknown fields: cpu"),
        ({"profiles": {"p": {"kind": "vm"}}}, "kind: Input should be 'local', 'docker'"),
        ({"profiles": {"p": {"namespace": "jobs"}}}, "namespace is for kubernetes"),
        ({"profiles": {"p": {"kind": "docker", "address": "tcp://very-secret@h"}}}, "tcp://HOST"),
        ({"profiles": {"p": {"egress": ["10.0.0.1"]}}}, "egress.0: '10.0.0.1' is not the name"),
    ],
)
def test_an_unusable_request_is_refused_whole_and_without_its_values(
    request_: object, said: str
) -> None:
    with pytest.raises(Refused) as caught:
        documents.read_request(request_)
    assert said in caught.value.message
    assert "very-secret" not in str(caught.value)


def test_what_does_not_exist_is_refused_with_what_does() -> None:
    apply({"stores": {"backups": {"folder": "/srv/backups"}}})

    with prefect_api.connect() as client:
        for act in (documents.remove, documents.read_one):
            with pytest.raises(Refused) as caught:
                act(client, "store", "backup")
            assert "Known are: backups." in caught.value.hint


class Command:
    """`python -m blocks`, run in this process: starting Prefect each time would cost seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str, given: str = "") -> tuple[int, str]:
        self._monkeypatch.setattr(sys, "argv", ["blocks", *arguments])
        self._monkeypatch.setattr(sys, "stdin", io.StringIO(given))
        code = main(list(arguments))
        said = self._capsys.readouterr()
        return code, said.out + said.err


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def test_the_verbs_list_show_and_remove_without_a_secret(command: Command) -> None:
    pager = {"kind": "slack", "url": "https://h/x1y2"}
    given = json.dumps({"servers": {"shop": URL}, "pagers": {"ops": pager}})

    applied = command("apply", "--json", given=given)
    listed = command("list")
    shown = command("show", "server", "shop", "--json")
    unknown = command("remove", "pager", "nobody", "--json")
    removed = command("remove", "pager", "ops")

    assert json.loads(applied[1])["saved"][0]["action"] == "created"
    assert "shop@127.0.0.1:1/shop" in listed[1]
    assert json.loads(shown[1])["fields"]["database"] == "shop"
    assert unknown[0] == 3
    assert "ops" in json.loads(unknown[1])["error"]["hint"]
    assert removed[0] == 0
    for _, said in (applied, listed, shown, unknown, removed):
        assert "very-secret" not in said
        assert "x1y2" not in said


def test_input_that_is_not_json_is_refused(command: Command) -> None:
    code, said = command("apply", given="servers:")

    assert code == 3
    assert "not JSON" in said


def test_a_server_that_cannot_be_entered_is_unavailable(command: Command) -> None:
    apply({"servers": {"shop": URL}})

    code, said = command("test", "server", "shop", "--json")

    assert code == 1
    assert json.loads(said)["error"]["kind"] == "unavailable"
    assert "very-secret" not in said


def test_a_server_is_entered_and_what_its_role_may_not_read_is_named() -> None:
    with cluster.scratch_server(installations.newest_server()) as address:
        with connect(address, "postgres") as session:
            session.execute("CREATE ROLE limited LOGIN")
            session.execute('CREATE TABLE public."odd ""name" (a int)')
            session.execute("CREATE TABLE public.hidden (a int)")
            session.execute("GRANT SELECT ON public.hidden TO limited")
            session.execute("ALTER TABLE public.hidden ENABLE ROW LEVEL SECURITY")
        owner = checks.check_server("shop", PostgresServer.of(address))
        limited = checks.check_server(
            "shop", PostgresServer.of(address.model_copy(update={"user": "limited"}))
        )

    assert owner["problems"] == []
    assert owner["is_superuser"] is True
    assert owner["databases"] == ["postgres"]
    told = " ".join(str(one) for one in limited["problems"])  # type: ignore[union-attr]
    assert 'public."odd ""name"' in told
    assert "BYPASSRLS" in told


def test_a_store_is_written_read_and_left_clean(tmp_path: Path) -> None:
    found = checks.check_store("backups", BackupStore(folder=str(tmp_path)))

    assert int(str(found["free_bytes"])) > 0
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(Refused) as caught:
        checks.check_store("backups", BackupStore(folder=str(tmp_path / "gone")))
    assert "mkdir" in caught.value.hint


def test_a_bucket_is_saved_with_keys_of_its_own_or_of_an_aws_credentials_block(server: str) -> None:
    keys = {"access_key_id": "AKID", "secret_access_key": "very-secret"}
    bucket = {"bucket": "kept", "prefix": "/a", "lock_days": 3}
    lent_keys = AwsCredentials(
        aws_access_key_id="OTHER",
        aws_secret_access_key=SecretStr("hushed"),
        region_name="eu-west-1",
    )
    apply({"stores": {"own": {**bucket, **keys}, "lent": {**bucket, "credentials": "aws-keys"}}})

    with prefect_api.connect():
        AwsCredentials.register_type_and_schema()
        lent_keys.save("aws-keys", overwrite=True)
        own, lent = lookup.find_store("own"), lookup.find_store("lent")
        AwsCredentials.delete("aws-keys")

    assert isinstance(own, S3Address) and isinstance(lent, S3Address)
    assert (own.where, own.lock_days, own.access_key_id) == ("s3://kept/a/", 3, "AKID")
    assert own.secret_access_key == SecretStr("very-secret")
    assert (lent.access_key_id, lent.region) == ("OTHER", "eu-west-1")
    assert lent.secret_access_key == SecretStr("hushed")
    with prefect_api.connect() as client:
        block = documents.read_one(client, "store", "own")
    assert documents.where(block) == "s3://kept/a/"
    assert "very-secret" not in json.dumps(documents.fields_without_secrets(block))


def test_a_store_saved_when_there_were_only_folders_still_opens() -> None:
    old = BackupStore.model_validate({"folder": "/srv/backups"})
    assert old.address("s") == FolderAddress(name="s", folder=Path("/srv/backups"))


def test_a_pager_is_tried_by_a_message_that_says_it_is_a_test(server: str) -> None:
    with receive_posts() as web:
        apply({"pagers": {"ops": {"kind": "webhook", "url": web.url}}})
        answer = run_module("blocks", "test", "pager", "ops", "--json", url=server)

        assert json.loads(answer.stdout)["ok"] is True, answer.stderr
        assert "test" in web.received.get_nowait()["subject"]


def test_prefect_finds_the_pager_by_its_type() -> None:
    assert Pager.get_block_type_slug() == "flowforge-pager"
    assert "notify" in Pager.get_block_capabilities()
