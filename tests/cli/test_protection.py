"""How well databases are protected, and a person's word on a copy, from the command line."""

from __future__ import annotations

import pytest

from flowforge.rules.standing import known_of, stand
from tests.cli.conftest import Command
from tests.cli.test_operations import finish, last_parameters
from tests.client.relay import Relay
from tests.client.values import AT, a_copy
from tests.rules.test_drills import a_drill

NAME = "backup-20261124-060000"
WORD = ("--server", "shop", "--reason", "the auditor asked")


def told(relay: Relay, *, drilled: bool) -> None:
    copies = [a_copy(), a_copy().model_copy(update={"store": "vault"})]
    drills = [a_drill(1, 60)] if drilled else []
    found = [one.model_dump(mode="json") for one in stand(known_of(copies, drills), AT)]
    relay.answer("status", status="ok", version="0.1.0", prefect="3.8.8", databases=found)


def test_the_status_of_backups_says_what_is_lost_and_how_fast_it_is_back(
    relay: Relay, connected: Command
) -> None:
    told(relay, drilled=True)
    said = connected("backup", "status")
    assert said.code == 0, said.err
    assert "0.0 s ≤ 6 h 00 min" in said.out
    assert "1 min 30 s ≤ 15 min 00 s" in said.out
    assert "backups: 1 copies; vault: 1 copies" in said.out
    assert said.out.endswith("1 of 1 databases keep what was promised.\n")
    assert "No copies yet" in connected("backup", "status", "crm").out


def test_the_status_of_backups_is_told_in_json(relay: Relay, connected: Command) -> None:
    told(relay, drilled=False)
    (one,) = connected("backup", "status", "--json").json["databases"]
    assert (one["verdict"], one["rto_seconds"]) == ("unknown", None)
    assert [store["store"] for store in one["stores"]] == ["backups", "vault"]


def test_a_promise_that_is_missed_is_an_exit_code(relay: Relay, connected: Command) -> None:
    missed = {"server": "shop", "database": "app", "newest_copy": NAME, "age_seconds": 1.0}
    relay.answer("status", status="ok", version="0.1.0", prefect="3.8.8", databases=[missed])
    said = connected("backup", "status")
    assert said.code == 1
    assert "missed: shop/app" in said.out


@pytest.mark.parametrize("word", ["hold", "release", "accept"])
def test_a_word_on_a_copy_is_a_run_with_its_reason(
    relay: Relay, connected: Command, word: str
) -> None:
    relay.deploy(
        "say-of-copy",
        "on-demand",
        *("server", "copy", "word", "reason", "by"),
        optional=("database", "store"),
    )
    finish(relay)
    said = connected("backup", word, NAME, *WORD)
    assert said.code == 0, said.err
    parameters = last_parameters(relay)
    assert isinstance(parameters, dict)
    assert parameters.pop("by")
    assert parameters == {
        "server": "shop",
        "copy": NAME,
        "word": word,
        "reason": "the auditor asked",
    }


def test_what_is_no_copy_is_refused_before_anything_runs(connected: Command) -> None:
    said = connected("backup", "hold", "latest", *WORD)
    assert said.code == 3
    assert "not the name of a copy" in said.err
