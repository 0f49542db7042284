"""What `emergency/` runs on a cluster: run as it is written, and looked at as a cluster does."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pyrage
import pytest

from flowforge.engines.backup.shelf import catalogue
from flowforge.engines.backup.stores.folder import FolderStore
from flowforge.engines.postgres.connection import connect
from flowforge.rules.addresses import PostgresAddress
from flowforge.rules.backups import Copy, Level
from tests.breakglass import pods
from tests.breakglass.test_commands import breakglass
from tests.prefect_server import run_server_on

BACKUP = "break-glass-backup-cronjob.yaml"
RESTORE = "database-restore-job.yaml"
BOTH = pytest.mark.parametrize("name", [BACKUP, RESTORE])
SCHEMA = """
CREATE TABLE runs (id int PRIMARY KEY, note text);
INSERT INTO runs SELECT g, 'n' || g FROM generate_series(1, 500) g;
"""
Database = Callable[..., PostgresAddress]


def make_cluster(
    address: PostgresAddress, folder: Path, **recovery: dict[str, str]
) -> tuple[pods.Cluster, FolderStore]:
    """A cluster with the secrets that the heads of both files tell how to make, and its store."""
    user = Path(address.host).stat().st_uid
    copies = folder / "copies"
    copies.mkdir()
    os.chown(copies, user, -1)
    url = f"postgresql://{address.user}@/postgres?host=/sockets&port={address.port}"
    both = {"store": "/mnt/copies", "url": url}
    secrets = {
        "flowforge-break-glass-backup": both | recovery.get("backup", {}),
        "flowforge-break-glass": both | recovery.get("restore", {}),
    }
    given = {"/mnt/copies": copies, "/sockets": Path(address.host)}
    return pods.Cluster(folder, secrets, given, user), FolderStore("store", copies)


def only_copy(store: FolderStore) -> Copy:
    (found,) = catalogue.list_copies(store, "platform", "prefect")
    return found


def destroy(address: PostgresAddress) -> None:
    with connect(address, "postgres") as session:
        session.execute("DROP DATABASE prefect WITH (FORCE)")


def check_went_well(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_cluster_takes_sealed_copies_and_brings_a_destroyed_database_back(
    database: Database, tmp_path: Path
) -> None:
    address = database(SCHEMA, name="prefect")
    key, other = (pyrage.x25519.Identity.generate() for _ in range(2))
    cluster, store = make_cluster(
        address,
        tmp_path,
        backup={"recipients": f"{other.to_public()} {key.to_public()}"},
        restore={"recovery.key": f"# from the safe\n{key}\n"},
    )
    check_went_well(cluster.run(BACKUP))
    taken = only_copy(store)
    again = cluster.run(BACKUP)
    check_went_well(again)
    assert again.stdout.startswith("Nothing to do: the newest copy is ")
    assert only_copy(store) == taken

    destroy(address)
    refused = cluster.run(RESTORE)
    assert refused.returncode == 3
    assert "--copy latest" in refused.stderr
    key_file = tmp_path / "recovery.key"
    key_file.write_text(str(key))
    place = ("--store", str(store.folder), "--key", str(key_file))
    check_went_well(breakglass("verify", *place, "--restore"))
    assert only_copy(store).level == Level.COMPARED
    check_went_well(cluster.run(RESTORE))
    with connect(address) as session:
        assert session.execute("SELECT count(*), max(note) FROM public.runs").fetchone() == (
            500,
            "n99",
        )

    again = cluster.run(RESTORE)
    check_went_well(again)
    assert "Nothing to do: restore " in again.stdout
    with connect(address, "postgres") as session:
        (kept,) = session.execute(
            "SELECT count(*) FROM pg_database WHERE datname LIKE 'prefect%'"
        ).fetchone() or (0,)
    assert kept == 1


@pytest.mark.slow
def test_prefects_lost_database_comes_back_with_its_runs(
    database: Database, tmp_path: Path
) -> None:
    address = database(name="prefect")
    cluster, store = make_cluster(address, tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    with run_server_on(home, address, "prefect") as url:
        flow = httpx.post(f"{url}/flows/", json={"name": "nightly"}).json()["id"]
        for n in range(25):
            run = {"flow_id": flow, "name": f"run-{n}", "state": {"type": "COMPLETED"}}
            httpx.post(f"{url}/flow_runs/", json=run).raise_for_status()
        before = list_runs(url)
        check_went_well(cluster.run(BACKUP))
    verified = breakglass("verify", "--store", str(store.folder), "--restore")
    check_went_well(verified)
    assert only_copy(store).level >= Level.COMPARED

    destroy(address)
    begun = time.monotonic()
    check_went_well(cluster.run(RESTORE))
    with run_server_on(home, address, "prefect") as url:
        assert list_runs(url) == before
    assert len(before) == 25
    assert time.monotonic() - begun < 180


def list_runs(url: str) -> list[tuple[str, str, str]]:
    page = httpx.post(f"{url}/flow_runs/filter", json={"sort": "NAME_DESC"}).raise_for_status()
    return [(run["id"], run["name"], run["state_type"]) for run in page.json()]


@BOTH
def test_it_runs_without_any_right_it_does_not_need(name: str) -> None:
    document = pods.read_document(name)
    pod = pods.pod_of(document)
    (container,) = pod["containers"]
    assert document["metadata"]["namespace"] == "flowforge-data"
    assert pod["restartPolicy"] == "Never"
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "runAsGroup": 1000,
        "fsGroup": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & pod.keys()
    assert not {"stdin", "tty", "ports"} & container.keys()


@BOTH
def test_it_takes_its_secrets_from_the_cluster_and_none_from_the_file(name: str) -> None:
    (container,) = pods.pod_of(pods.read_document(name))["containers"]
    written = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    assert written in ({}, {"FLOWFORGE_RECOVERY_KEY_FILE": "/etc/flowforge/recovery/recovery.key"})
    assert {"FLOWFORGE_STORE"} < {one["name"] for one in container["env"]}
    text = (pods.EMERGENCY / name).read_text()
    assert "AGE-SECRET-KEY" not in text and "postgresql://" not in text
    said = [*container["command"], *container["args"]]
    assert not any("$(" in word or "://" in word for word in said)


@BOTH
def test_it_takes_a_known_share_of_a_machine_and_ends(name: str) -> None:
    document = pods.read_document(name)
    pod = pods.pod_of(document)
    (container,) = pod["containers"]
    requests, limits = container["resources"]["requests"], container["resources"]["limits"]
    assert requests.keys() == {"cpu", "memory"}
    assert limits.keys() == {"memory"}
    assert mebibytes(requests["memory"]) <= mebibytes(limits["memory"]) <= 384
    assert container["image"] == "flowforge:latest"
    assert [volume for volume in pod["volumes"] if "hostPath" in volume] == []
    assert {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}} in pod["volumes"]
    assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
    assert job_of(document)["activeDeadlineSeconds"] > 0
    assert job_of(document)["backoffLimit"] <= 2


def test_copies_are_looked_for_every_hour_and_by_one_at_a_time() -> None:
    spec = pods.read_document(BACKUP)["spec"]
    minute, *rest = spec["schedule"].split()
    assert minute.isdigit() and rest == ["*"] * 4
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["timeZone"] == "Etc/UTC"


def test_the_recovery_key_is_mounted_for_restores_alone_and_may_be_missing() -> None:
    backup, restore = (pods.pod_of(pods.read_document(name)) for name in (BACKUP, RESTORE))
    assert all("secret" not in volume for volume in backup["volumes"])
    (key,) = [volume["secret"] for volume in restore["volumes"] if "secret" in volume]
    assert key["optional"] is True
    assert key["defaultMode"] & 0o007 == 0
    (mount,) = [m for m in restore["containers"][0]["volumeMounts"] if m["name"] == "recovery"]
    assert mount["readOnly"] is True


def job_of(document: dict[str, Any]) -> dict[str, Any]:
    """The job of a Job, or the one a CronJob makes."""
    spec: dict[str, Any] = document["spec"]
    return spec["jobTemplate"]["spec"] if document["kind"] == "CronJob" else spec


def mebibytes(text: str) -> int:
    assert text.endswith("Mi")
    return int(text.removesuffix("Mi"))
