"""Backups and restores from the command line, against a real Prefect server."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from flowforge.rules.backups import Level
from flowforge.rules.restores import RestorePlan, TargetFacts
from tests.cli.conftest import Command
from tests.client.relay import Relay
from tests.client.values import a_copy, a_proof, an_operation

NAME = "backup-20261124-060000"


@pytest.fixture
def worker(relay: Relay) -> Relay:
    """Deployments whose runs end at once, with the evidence of `an_operation`."""
    optional = ("database", "store", "copy", "action", "plan_hash")
    targets = ("target_server", "target_database")
    relay.deploy("backup-postgres", "database-backup", "server", optional=optional)
    relay.deploy("restore-drill", "weekly", "server", optional=optional)
    relay.deploy("restore-postgres", "on-demand", "server", optional=(*optional, *targets))
    finish(relay)
    return relay


def finish(relay: Relay, facts: object = None) -> None:
    def work(flow_run_id: str) -> None:
        operation = an_operation(flow_run_id, facts=facts)
        relay.answer(f"operations/{flow_run_id}", operation=operation.model_dump(mode="json"))
        relay.end(flow_run_id, "COMPLETED")

    relay.after_creation = work


def fail(relay: Relay, message: str) -> None:
    relay.after_creation = lambda run_id: relay.end(
        run_id, "FAILED", message=f"Flow run encountered an exception: {message}"
    )


def last_parameters(relay: Relay) -> object:
    runs = relay.post("flow_runs/filter", {"sort": "EXPECTED_START_TIME_DESC", "limit": 1})
    return runs[0]["parameters"]


def a_plan(*obstacles: str) -> dict[str, object]:
    plan = RestorePlan(
        copy_name=NAME,
        source_server="shop",
        source_database="app",
        store="backups",
        copy_sha256="0" * 64,
        copy_level=Level.COMPARED,
        snapshot_at=datetime(2026, 11, 24, 6, tzinfo=UTC),
        planned_at=datetime(2026, 11, 24, 7, tzinfo=UTC),
        loses_seconds=3600,
        database_bytes=80_000_000,
        target=TargetFacts(
            server="shop",
            system_identifier="7",
            major=18,
            database="app",
            database_oid=16384,
            may_create=True,
            may_rename=True,
        ),
        side_database="app__restore_1",
        kept_as="app__before_1",
        estimated_seconds=4.2,
        obstacles=obstacles,
    )
    return {"plan": plan.model_dump(mode="json"), "plan_hash": plan.digest}


def test_a_backup_ends_in_its_evidence(worker: Relay, connected: Command) -> None:
    said = connected("backup", "run", "shop", "app", "--store", "backups")
    assert said.code == 0
    assert "proven L3: 14 tables compared, 84,210 rows" in said.out
    assert "/v2/runs/flow-run/" in said.err
    assert last_parameters(worker) == {"server": "shop", "database": "app", "store": "backups"}


def test_a_backup_speaks_json(worker: Relay, connected: Command) -> None:
    answer = connected("backup", "run", "shop", "--json").json
    assert answer["run"]["state"] == "Completed"
    assert answer["operation"]["flow_run_id"] == answer["run"]["id"]


def test_a_backup_can_be_left_alone(worker: Relay, connected: Command) -> None:
    worker.after_creation = lambda flow_run_id: None
    assert connected("backup", "run", "shop", "--no-wait", "--json").json["run"]["id"]


@pytest.mark.parametrize(
    ("message", "kind", "code"),
    [
        ("Refused: Busy. Hint: Wait.", "refused", 3),
        ("Damaged: A row is gone. Hint: Look.", "damaged", 4),
        ("Unavailable: Gone. Hint: Wait.", "unavailable", 1),
        ("ValueError: surprise", "failed", 1),
    ],
)
def test_a_run_that_failed_is_told_by_its_kind(
    worker: Relay, connected: Command, message: str, kind: str, code: int
) -> None:
    fail(worker, message)
    said = connected("backup", "run", "shop", "--json")
    assert said.code == code
    assert said.json["error"]["kind"] == kind
    assert said.json["error"]["hint"]


def test_copies_are_listed_and_shown(worker: Relay, connected: Command) -> None:
    copy, proof = a_copy().model_dump(mode="json"), a_proof().model_dump(mode="json")
    worker.answer("copies", copies=[copy])
    worker.answer(f"copies/shop/app/{NAME}", copy=copy, proofs=[proof])
    listed, shown = connected("backup", "list"), connected("backup", "show", NAME)
    assert [line.split()[:3] for line in listed.out.splitlines()[1:]] == [["shop", "app", NAME]]
    assert "12.4 MB" in listed.out
    assert "proven L3" in shown.out
    assert f"flowforge restore plan shop app --copy {NAME}" in shown.out
    assert connected("backup", "list", "shop", "--json").json["copies"] == [copy]


def test_a_copy_of_two_databases_has_to_be_named_whole(worker: Relay, connected: Command) -> None:
    copies = [a_copy(database=name).model_dump(mode="json") for name in ("app", "web")]
    worker.answer("copies", copies=copies)
    said = connected("backup", "show", NAME)
    assert said.code == 3
    assert "--database" in said.err


def test_no_copies_says_how_to_make_one(worker: Relay, connected: Command) -> None:
    worker.answer("copies", copies=[])
    assert "flowforge backup run" in connected("backup", "list").out


def test_verify_runs_the_drill_on_that_copy(worker: Relay, connected: Command) -> None:
    assert connected("backup", "verify", NAME, "--server", "shop").code == 0
    assert last_parameters(worker) == {"server": "shop", "copy": NAME}


def test_a_plan_is_read_and_names_the_command_that_does_it(
    worker: Relay, connected: Command
) -> None:
    facts = a_plan()
    finish(worker, facts)
    said = connected("restore", "plan", "shop", "app")
    assert said.code == 0
    assert "the writes of the last 60 min" in said.out
    assert f"flowforge restore apply shop app --copy {NAME} --plan {facts['plan_hash']}" in said.out
    assert connected("restore", "plan", "shop", "--json").json["plan_hash"] == facts["plan_hash"]


def test_a_plan_with_an_obstacle_says_what_to_do_first(worker: Relay, connected: Command) -> None:
    finish(worker, a_plan("Create the role."))
    said = connected("restore", "plan", "shop", "app")
    assert said.code == 3
    assert "Create the role." in said.err
    assert "restore apply" not in said.out


def test_a_restore_is_applied_by_its_hash_and_says_how_to_take_it_back(
    worker: Relay, connected: Command
) -> None:
    finish(worker, {"restore_id": "20261124-abc", "database": "my app", "kept_as": "app__before"})
    words = ["shop", "my app", "--to-server", "standby", "--plan", "abc", "--copy", NAME]
    said = connected("restore", "apply", *words)
    assert said.code == 0
    undo = "flowforge restore undo 20261124-abc --server standby --database 'my app'"
    assert undo in said.out
    assert last_parameters(worker) == {
        "server": "shop",
        "database": "my app",
        "target_server": "standby",
        "copy": NAME,
        "action": "apply",
        "plan_hash": "abc",
    }


def test_undo_names_the_restore(worker: Relay, connected: Command) -> None:
    assert connected("restore", "undo", "20261124-abc", "--server", "shop").code == 0
    expected = {"server": "shop", "action": "undo", "plan_hash": "20261124-abc"}
    assert last_parameters(worker) == expected
