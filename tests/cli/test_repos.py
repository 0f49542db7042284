"""Access to private repositories is tried, saved under a name, and never shown."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.engines.agent.git_host import TOKEN, host
from tests.engines.agent.repositories import git, repository


@pytest.fixture(scope="module")
def hosted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The URL of a private repository, and its newest commit."""
    made = repository(tmp_path_factory.mktemp("hosted") / "origin", {"a": b"1\n"})
    with host(made.parent) as server:
        yield f"{server.url}/origin/.git", git(made, "rev-parse", "HEAD")


@pytest.mark.slow
def test_an_access_is_tried_saved_listed_tested_and_removed(
    connected: Command, hosted: tuple[str, str]
) -> None:
    url, commit = hosted
    added = connected("repo", "add", "forge", "--url", url, stdin=f"{TOKEN}\n")
    assert added.code == 0, added.err
    assert commit in added.out
    assert "--access forge" in added.out
    listed = connected("repo", "list", "--json")
    assert listed.json["repos"][0]["where"] == f"token of x-access-token for {url}"
    tested = connected("repo", "test", "forge", "--json")
    assert (tested.json["ok"], tested.json["commit"]) == (True, commit)
    wrong = connected("repo", "add", "forge", "--url", url, stdin="wrong-token")
    assert wrong.code == 3
    removed = connected("repo", "remove", "forge")
    again = connected("repo", "remove", "forge")
    assert (removed.code, again.code) == (0, 3)
    for said in (added, listed, tested, wrong, removed, again):
        assert TOKEN not in said.out + said.err
        assert "wrong-token" not in said.out + said.err


@pytest.mark.slow
def test_a_token_in_a_file_and_a_key_are_saved_without_a_try(connected: Command) -> None:
    folder: Path = connected.folder
    for name in ("token", "key", "hosts"):
        (folder / name).write_text(f"secret-{name}\n")
    token = ("repo", "add", "one", "--token-file", "token", "--user", "me", "--no-test", "--json")
    assert connected(*token).json["action"] == "created"
    key = ("repo", "add", "two", "--key-file", "key", "--known-hosts", "hosts", "--no-test")
    assert connected(*key).code == 0
    listed = {
        one["name"]: one["where"] for one in connected("repo", "list", "--json").json["repos"]
    }
    assert (listed["one"], listed["two"]) == ("token of me", "SSH key")
    said = connected("repo", "test", "one")
    assert (said.code, "`flowforge repo add one --url URL`" in said.err) == (3, True)
    for name in ("one", "two"):
        assert connected("repo", "remove", name).code == 0


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("forge",), "--no-test"),
        (("forge", "ghp_hush", "--url", "https://example.com/x"), "standard input"),
        (("forge", "--url", "https://me:ghp_hush@example.com/x"), "asked for"),
        (("forge", "--no-test"), "printenv"),
        (("forge", "--no-test", "--token-file", "none"), "readable"),
        (("forge", "--no-test", "--key-file", "none"), "ssh-keyscan"),
        (("forge", "--no-test", "--known-hosts", "none"), "--key-file"),
        (("forge", "--no-test", "--key-file", "x", "--token-file", "y"), "either"),
        (("Not A Name", "--no-test"), "lowercase"),
    ],
)
def test_what_cannot_be_saved_is_refused_and_no_token_repeated(
    flowforge: Command, words: tuple[str, ...], hint: str
) -> None:
    said = flowforge("repo", "add", *words)
    assert said.code == 3
    assert hint in said.err
    assert "hush" not in said.out + said.err
