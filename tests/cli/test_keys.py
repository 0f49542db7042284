"""Keys of sealed copies on the command line: never an argument, tried before they are trusted."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyrage.x25519 import Identity

from tests.cli.conftest import Command
from tests.cli.test_operations import finish, last_parameters
from tests.client.relay import Relay


@pytest.mark.slow
def test_a_key_is_saved_listed_tested_and_removed_without_being_shown(connected: Command) -> None:
    identity = Identity.generate()
    public = str(identity.to_public())
    added = connected("key", "add", "drills", stdin=f"# made today\n{identity}\n")
    assert added.code == 0, added.err
    assert public in added.out
    (listed,) = connected("key", "list", "--json").json["keys"]
    assert (listed["name"], listed["where"]) == ("drills", public)
    tested = connected("key", "test", "drills", "--json")
    assert (tested.code, tested.json["stores"]) == (1, [])
    removed = connected("key", "remove", "drills")
    assert removed.code == 0
    for said in (added, tested, removed):
        assert "AGE-SECRET-KEY" not in said.out + said.err


def test_a_key_that_is_none_or_is_typed_is_refused(connected: Command) -> None:
    secret = str(Identity.generate())
    typed = connected("key", "add", "drills", secret)
    wrong = connected("key", "add", "drills", stdin="AGE-SECRET-KEY-1NONSENSE")
    assert (typed.code, wrong.code) == (3, 3)
    assert "seen by others" in typed.err
    assert "not an age secret key" in wrong.err
    assert secret not in typed.err
    assert "NONSENSE" not in wrong.err
    assert connected("key", "list", "--json").json["keys"] == []


@pytest.mark.parametrize(
    ("words", "parameters"),
    [
        (("rewrap", "vault"), {"action": "rewrap", "store": "vault"}),
        (("keys",), {"action": "report"}),
        (("keys", "--store", "vault"), {"action": "report", "store": "vault"}),
    ],
)
def test_keys_of_copies_are_a_run_of_their_own(
    relay: Relay, connected: Command, words: tuple[str, ...], parameters: dict[str, str]
) -> None:
    relay.deploy("recovery-keys", "on-demand", optional=("store", "action"))
    finish(relay)
    said = connected("backup", *words)
    assert said.code == 0, said.err
    assert last_parameters(relay) == parameters


def store_words(folder: Path, *recipients: Identity) -> list[str]:
    words = ["store", "add", "vault", "--folder", str(folder)]
    for one in recipients:
        words += ["--recipient", str(one.to_public())]
    return words


def test_a_store_seals_only_after_a_recovery_key_was_seen_to_open(
    connected: Command, tmp_path: Path
) -> None:
    daily, safe, stranger = (Identity.generate() for _ in range(3))
    words = store_words(tmp_path, daily, safe)
    file = tmp_path / "recovery.key"

    file.write_text(f"# kept in the safe\n{stranger}\n")
    for more, said in (
        ([], "No recovery key was shown"),
        (["--recovery-key", str(tmp_path / "nowhere")], "cannot be read"),
        (["--recovery-key", str(file)], str(stranger.to_public())),
    ):
        refused = connected(*words, *more)
        assert (refused.code, said in refused.err) == (3, True), refused.err
        assert str(stranger) not in refused.err
    assert connected("store", "list", "--json").json["stores"] == []

    file.write_text(f"# kept in the safe\n{safe}\n")
    saved = connected(*words, "--recovery-key", str(file))
    assert saved.code == 0, saved.err
    assert connected("store", "remove", "vault").code == 0


def test_a_store_that_would_seal_to_one_key_is_refused(connected: Command, tmp_path: Path) -> None:
    alone = Identity.generate()
    file = tmp_path / "recovery.key"
    file.write_text(str(alone))
    words = store_words(tmp_path, alone, alone)
    refused = connected(*words, "--recovery-key", str(file))
    assert (refused.code, "single key" in refused.err) == (3, True)
