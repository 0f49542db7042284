from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.ledger.journal import approvals
from tests.rehearsal import rehearsing
from tests.server.attempts import PATCH, attempt, end, on, work
from tests.server.running import Running

SPEC = {"prompt": "Do it."}


def submit(
    server: Running, spec: dict[str, Any] | None = None, key: str | None = None
) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return server.client.post(f"{server.api}/ff/v1/jobs", json=spec or SPEC, headers=headers)


def a_job(server: Running, **fields: Any) -> str:
    answer = submit(server, SPEC | fields)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["job"]["id"])


def ask(server: Running, path: str, **options: Any) -> httpx.Response:
    return server.get(f"{server.api}/ff/v1/jobs/{path}".rstrip("/"), **options)


def tell(server: Running, path: str, body: object = None) -> httpx.Response:
    return server.client.post(f"{server.api}/ff/v1/jobs/{path}", json=body)


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    assert told["hint"]
    assert told["status"] == status
    return told


def database(server: Running) -> str:
    assert server.database_url is not None
    return server.database_url


def test_the_same_key_and_spec_are_the_same_job_and_another_spec_is_a_conflict(
    server: Running,
) -> None:
    first, again = submit(server, key="k-1"), submit(server, key="k-1")
    other = submit(server, {"prompt": "Do something else."}, key="k-1")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["job"]["id"] == again.json()["job"]["id"]
    assert first.headers["location"] == f"/ff/v1/jobs/{first.json()['job']['id']}"
    assert "another job" in problem(other, 409)["detail"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"promt": "typo"}, "promt"),
        ({"model": "claude-0-never"}, "model"),
        ({"limits": {"usd": -1}}, "limits.usd"),
        ({"workspace": {"kind": "files", "files": {"../x": "1"}}}, "workspace.files.files.../x"),
        ({"workspace": {"kind": "files", "files": {"a": "1", "a/b": "2"}}}, "workspace.files"),
        ({"sandbox": {"egress": ["metadata.google.internal"]}}, "sandbox.egress.0"),
        ({"sandbox": {"egress": ["*.com"]}}, "sandbox.egress.0"),
        ({"sandbox": {"egress": ["169.254.169.254"]}}, "sandbox.egress.0"),
        ({"secrets": ["forge"]}, "secrets"),
        ({"deadline": "2020-01-01T00:00:00Z"}, "deadline"),
        ({"callback": "mailto:ann@example.com"}, "callback"),
    ],
)
def test_a_spec_that_cannot_go_well_is_refused_and_says_which_field(
    server: Running, fields: dict[str, Any], field: str
) -> None:
    told = problem(submit(server, SPEC | fields), 422)
    assert field in [one["field"] for one in told["fields"]] or field in json.dumps(told["fields"])


def test_a_password_in_an_address_is_refused_and_not_repeated(server: Running) -> None:
    url = "https://me:hunter2@example.com/repo.git"
    answer = submit(server, SPEC | {"workspace": {"kind": "git", "url": url}})
    assert problem(answer, 422)
    assert "hunter2" not in answer.text


def test_a_body_beyond_the_limit_is_refused_with_the_way_out(server: Running) -> None:
    large = b'{"prompt": "' + b"x" * (33 * 1024 * 1024) + b'"}'
    answer = server.client.post(f"{server.api}/ff/v1/jobs", content=large)
    assert "repository" in problem(answer, 413)["hint"]


def test_a_page_of_another_origin_may_not_submit(server: Running) -> None:
    headers = {"Origin": "https://evil.example"}
    answer = server.client.post(f"{server.api}/ff/v1/jobs", json=SPEC, headers=headers)
    assert answer.status_code == 403


def test_jobs_are_listed_by_label_state_and_tenant_page_by_page(server: Running) -> None:
    mine = [a_job(server, labels={"list": "yes"}, tenant="lister") for _ in range(3)]
    a_job(server, tenant="lister")
    query = {"label": "list=yes", "tenant": "lister", "state": "queued", "limit": "2"}
    first = ask(server, "", params=query).json()
    second = ask(server, "", params={**query, "before": first["next"]}).json()
    assert [one["id"] for one in first["jobs"] + second["jobs"]] == mine[::-1]
    assert second["next"] is None
    assert problem(ask(server, "", params={"label": "odd"}), 422)


def test_a_job_is_shown_without_the_files_that_came_with_it(server: Running) -> None:
    job = a_job(server, workspace={"kind": "files", "files": {"a.txt": "very long"}})
    told = ask(server, job).json()["job"]
    assert told["spec"]["workspace"] == {"kind": "files", "paths": ["a.txt"]}
    assert "very long" not in json.dumps(told)
    assert problem(ask(server, "job_none"), 404)["detail"] == "There is no job job_none."


def test_waiting_for_a_job_returns_soon_after_it_ended(server: Running) -> None:
    job = a_job(server)

    async def story(engine: AsyncEngine) -> httpx.Response:
        url = f"{server.api}/ff/v1/jobs/{job}"
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            waiting = asyncio.create_task(client.get(url, params={"wait_seconds": "20"}))
            await work(engine, job)
            return await waiting

    told = on(database(server), story).json()["job"]
    assert told["state"] == "succeeded"
    assert told["result"]["text"] == "It is done."
    assert [one["name"] for one in told["artifacts"]] == ["patch", "output-1-0"]


def test_a_queued_job_is_cancelled_at_once_and_says_so_to_who_follows(server: Running) -> None:
    job = a_job(server)
    told = tell(server, f"{job}/cancel", {"by": "ann"}).json()["job"]
    assert (told["state"], told["reason"]) == ("cancelled", "cancelled by ann")
    assert tell(server, f"{job}/cancel").status_code == 200
    assert [kind for kind, _ in kinds(stream(server, job))] == ["ended", "closed"]


def test_a_running_job_is_asked_to_end(server: Running) -> None:
    job = a_job(server)

    async def story(engine: AsyncEngine) -> None:
        async with attempt(engine, job) as lease:
            told = await asyncio.to_thread(tell, server, f"{job}/cancel", {"by": "ann"})
            assert told.json()["job"]["cancel_requested_by"] == "ann"
            assert told.json()["job"]["state"] == "running"
            await end(engine, lease, "cancelled")

    on(database(server), story)
    assert tell(server, f"{job}/cancel").status_code == 200
    ended = a_job(server)
    on(database(server), lambda engine: work(engine, ended))
    assert "ended already" in problem(tell(server, f"{ended}/cancel"), 409)["detail"]


def test_the_patch_is_refused_while_the_job_runs_and_given_byte_for_byte_after(
    server: Running,
) -> None:
    job = a_job(server)
    assert "tail" in problem(ask(server, f"{job}/patch"), 409)["hint"]
    on(database(server), lambda engine: work(engine, job))
    answer = ask(server, f"{job}/patch")
    assert answer.content == PATCH
    assert answer.headers["content-type"].startswith("text/x-patch")
    saved = ask(server, f"{job}/artifacts/output-1-0")
    assert saved.content == b"made\n"
    assert saved.headers["content-disposition"].startswith("attachment")
    assert "output-1-0" in problem(ask(server, f"{job}/artifacts/nothing"), 404)["hint"]


def test_the_cost_adds_up_to_six_decimals(server: Running) -> None:
    job = a_job(server)
    on(database(server), lambda engine: work(engine, job))
    cost = ask(server, f"{job}/cost").json()["cost"]
    assert [row["usd"] for row in cost["turns"]] == ["0.0123455", "0.0123455"]
    assert cost["usd"] == "0.024691"
    assert cost["usage"]["input_tokens"] == 2000
    assert cost["limit_usd"] == "2.0"


def test_the_transcript_is_read_from_the_journal_turn_by_turn(server: Running) -> None:
    job = a_job(server)
    on(database(server), lambda engine: work(engine, job))
    told = ask(server, f"{job}/transcript").json()
    assert told["prompt"] == "Do it."
    assert [turn["content"][0]["text"] for turn in told["turns"]] == ["Step 1.", "Step 2."]
    assert told["turns"][0]["tools"][0]["result"] == "made"
    assert [turn["n"] for turn in ask(server, f"{job}/transcript?after=1").json()["turns"]] == [2]


def test_a_command_that_waits_is_answered_once(server: Running) -> None:
    job = a_job(server)

    async def story(engine: AsyncEngine) -> None:
        async with attempt(engine, job) as lease:
            await approvals.ask(engine, lease, 1, "toolu_1", command="git push", seconds=60)

    on(database(server), story)
    body = {"turn": 1, "tool_use_id": "toolu_1", "granted": True, "by": "ann"}
    assert tell(server, f"{job}/approve", body).json()["approval"]["state"] == "granted"
    assert tell(server, f"{job}/approve", body).status_code == 200
    problem(tell(server, f"{job}/approve", body | {"granted": False}), 409)
    problem(tell(server, f"{job}/approve", {"turn": 1}), 422)
    assert ask(server, job).json()["job"]["approvals"][0]["answered_by"] == "ann"


def test_a_fork_goes_on_from_a_turn_with_another_prompt(server: Running) -> None:
    job = a_job(server, labels={"of": "a fork"})
    on(database(server), lambda engine: work(engine, job))
    told = tell(server, f"{job}/fork", {"turn": 1, "prompt": "Other."}).json()["job"]
    assert (told["forked_from"], told["forked_turn"]) == (job, 1)
    assert told["labels"] == {"of": "a fork"}
    missing = problem(tell(server, f"{job}/fork", {"turn": 9, "prompt": "Other."}), 422)
    assert missing["fields"][0]["field"] == "turn"


def test_only_an_ended_job_is_deleted_and_then_it_is_gone(server: Running) -> None:
    job = a_job(server)
    url = f"{server.api}/ff/v1/jobs/{job}"
    assert "Cancel it first" in problem(server.client.delete(url), 409)["hint"]
    tell(server, f"{job}/cancel")
    assert server.client.delete(url).json() == {"schema": 1, "deleted": job}
    assert problem(server.client.delete(url), 404)


def stream(server: Running, job: str, after: int | None = None) -> list[dict[str, str]]:
    """Every message of the stream until the server closes it."""
    headers = {"Accept": "text/event-stream"}
    headers |= {} if after is None else {"Last-Event-ID": str(after)}
    answer = ask(server, f"{job}/events", headers=headers)
    assert answer.headers["content-type"].startswith("text/event-stream")
    blocks = [block for block in answer.text.split("\n\n") if "data: " in block]
    return [dict(line.split(": ", 1) for line in block.split("\n")) for block in blocks]


def kinds(messages: list[dict[str, str]]) -> list[tuple[str, int | None]]:
    return [(m["event"], int(m["id"]) if "id" in m else None) for m in messages]


def test_a_stream_that_is_taken_up_again_has_no_gap_and_no_duplicate(server: Running) -> None:
    job = a_job(server)
    on(database(server), lambda engine: work(engine, job))
    whole = kinds(stream(server, job))
    assert [seq for _, seq in whole] == [*range(1, len(whole)), None]
    assert [kind for kind, _ in whole][-2:] == ["ended", "closed"]
    for after in range(len(whole)):
        assert kinds(stream(server, job, after)) == whole[after:]


def test_events_come_as_they_happen(server: Running) -> None:
    job = a_job(server)
    seen: list[str] = []

    def follow() -> None:
        seen.extend(kind for kind, _ in kinds(stream(server, job)))

    following = threading.Thread(target=follow)
    following.start()
    on(database(server), lambda engine: work(engine, job))
    following.join(timeout=10)
    assert seen == ["state", *["turn", "turn", "tool", "tool"] * 2, "ended", "closed"]


def test_events_are_also_read_page_by_page(server: Running) -> None:
    job = a_job(server)
    on(database(server), lambda engine: work(engine, job))
    first = ask(server, f"{job}/events?limit=3").json()
    rest = ask(server, f"{job}/events?after={first['next']}").json()
    assert [one["seq"] for one in first["events"] + rest["events"]] == list(range(1, 11))
    assert (rest["next"], rest["state"]) == (10, "succeeded")
    assert ask(server, f"{job}/events?after=10").json()["next"] == 10


def test_what_the_provider_knows_of_a_model_is_said_when_a_job_is_submitted(
    server: Running,
) -> None:
    key = "sk-only-workers-and-the-server"
    with rehearsing() as model:
        saved = {"api_key": key, "base_url": model.url}
        with an_account(server, saved):
            too_much = submit(server, SPEC | {"model": "claude-opus-4-5", "max_tokens": 70_000})
            assert "64,000" in problem(too_much, 422)["fields"][0]["message"]
            retired = submit(server, SPEC | {"model": "claude-3-opus-20240229"})
            told = [one["message"] for one in problem(retired, 422)["fields"]]
            assert "was retired on 2026-01-05" in " ".join(told)
            a_job(server)
    with an_account(server, {"api_key": key, "base_url": model.url}):
        answer = submit(server, SPEC | {"model": "claude-opus-4-5", "max_tokens": 70_000})
        assert answer.status_code == 201  # the provider is away: the run asks again
    assert key not in too_much.text + retired.text + server.log.read_text()


def test_an_access_that_is_not_saved_is_said_when_a_job_is_submitted(server: Running) -> None:
    source = {"kind": "git", "url": "https://example.com/x.git", "secret": "never-saved"}
    (told,) = problem(submit(server, SPEC | {"workspace": source}), 422)["fields"]
    assert told["field"] == "workspace.secret"
    assert "`flowforge repo add never-saved`" in told["message"]


@contextmanager
def an_account(server: Running, data: dict[str, str]) -> Iterator[None]:
    """The account `default` as a block of Prefect, while the block lasts."""
    kind = {"name": "Claude account", "slug": "flowforge-claude-account"}
    if server.post("/block_types/", kind).status_code not in (201, 409):
        raise AssertionError("no type")
    found = server.get(f"{server.api}/api/block_types/slug/{kind['slug']}").json()["id"]
    fields = {"type": "object", "properties": {name: {"type": "string"} for name in data}}
    schema = {"block_type_id": found, "fields": fields | {"secret_fields": ["api_key"]}}
    schema_id = server.post("/block_schemas/", schema).json()["id"]
    document = {"name": "default", "data": data, "block_type_id": found}
    made = server.post("/block_documents/", document | {"block_schema_id": schema_id})
    assert made.status_code == 201, made.text
    yield
    server.client.delete(f"{server.api}/api/block_documents/{made.json()['id']}")
