"""Where a job's files come from, and what is said when they do not come."""

from __future__ import annotations

import asyncio
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flowforge.engines.agent.sources import Base, Places, bring
from flowforge.engines.agent.sources_access import (
    Access,
    KeyAccess,
    NoAccess,
    TokenAccess,
    granted,
    place_of,
)
from flowforge.engines.agent.sources_check import try_access
from flowforge.errors import Refused, Unavailable
from flowforge.rules.jobs.spec import Empty, FileSet, GitSource
from tests.engines.agent.git_host import TOKEN, Host, host
from tests.engines.agent.repositories import commit, git, repository, tree_of


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three commits: `v1`, then `side`, then `main`."""
    made = repository(tmp_path_factory.mktemp("hosted") / "origin", {"a": b"1\n"})
    git(made, "tag", "-am", "first", "v1")
    (made / "a").write_bytes(b"2\n")
    git(commit(made), "branch", "side")
    (made / "a").write_bytes(b"3\n")
    return commit(made)


@pytest.fixture
def private(origin: Path) -> Iterator[Host]:
    with host(origin.parent) as server:
        yield server


def fetch(source: GitSource, folder: Path, access: Access | None = None) -> tuple[Places, Base]:
    return asyncio.run(bring(source, folder, access=access))


@pytest.mark.parametrize(
    ("ref", "content"), [("HEAD", "3\n"), ("main", "3\n"), ("side", "2\n"), ("v1", "1\n")]
)
def test_a_branch_or_tag_is_brought(origin: Path, tmp_path: Path, ref: str, content: str) -> None:
    places, base = fetch(GitSource(url=f"file://{origin}", ref=ref), tmp_path / "job")
    assert (places.files / "a").read_text() == content
    assert base.commit == git(origin, "rev-parse", f"{ref}^{{commit}}")
    assert base.tree == base.shown == git(origin, "rev-parse", f"{ref}^{{tree}}")
    assert sorted(path.name for path in places.files.iterdir()) == ["a"]


def test_a_commit_is_brought_and_only_as_much_of_its_past_as_asked(
    origin: Path, tmp_path: Path
) -> None:
    wanted = git(origin, "rev-parse", "main")
    for depth in (1, 2):
        source = GitSource(url=str(origin), ref=wanted, depth=depth)
        places, base = fetch(source, tmp_path / str(depth))
        assert base.commit == wanted
        assert git(places.base.folder, "rev-list", "--count", wanted) == str(depth)


def test_a_later_attempt_begins_with_the_commit_of_the_first(origin: Path, tmp_path: Path) -> None:
    first = git(origin, "rev-parse", "v1^{commit}")
    places, base = asyncio.run(bring(GitSource(url=str(origin)), tmp_path / "job", commit=first))
    assert (base.commit, (places.files / "a").read_text()) == (first, "1\n")


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("nowhere", "has no 'nowhere'"),
        ("0" * 40, "has no"),
        ("abc1234", "all 40 digits"),
        ("--upload-pack=touch ran", "is not a branch, tag or commit"),
        ("a:b", "is not a branch, tag or commit"),
        ("+main", "is not a branch, tag or commit"),
        ("main..side", "is not a branch, tag or commit"),
    ],
)
def test_a_ref_that_is_not_there_is_refused(
    origin: Path, tmp_path: Path, ref: str, said: str
) -> None:
    with pytest.raises(Refused, match=said):
        fetch(GitSource(url=str(origin), ref=ref), tmp_path / "job")


@pytest.mark.parametrize("subdir", ["b", "a", "a/b"])
def test_a_folder_that_is_not_there_is_refused(origin: Path, tmp_path: Path, subdir: str) -> None:
    with pytest.raises(Refused, match=f"no folder '{subdir}'"):
        fetch(GitSource(url=str(origin), subdir=subdir), tmp_path / "job")


def test_a_repository_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="There is no repository"):
        fetch(GitSource(url=f"{tmp_path}/none"), tmp_path / "job")


def test_a_host_that_does_not_answer_is_waited_for(tmp_path: Path, origin: Path) -> None:
    with host(origin.parent) as server:
        url = f"{server.url}/origin"
    with pytest.raises(Unavailable, match="could not be fetched"):
        fetch(GitSource(url=url), tmp_path / "job")


@pytest.fixture
def mute() -> Iterator[str]:
    """The URL of a host that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/x"


def test_a_host_that_stands_still_is_not_waited_for_without_end(mute: str, tmp_path: Path) -> None:
    async def work() -> None:
        places, _ = await bring(Empty(), tmp_path / "job")
        fetch = ("-c", "protocol.http.allow=always", "fetch", mute)
        with pytest.raises(Unavailable, match="nothing for"):
            await places.base.run(*fetch, idle_seconds=0.3)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await places.base.run(*fetch)

    asyncio.run(work())
    left = [one for one in psutil.Process().children(recursive=True) if "git" in one.name()]
    assert left == []


def test_a_private_repository_opens_to_its_token_alone(private: Host, tmp_path: Path) -> None:
    source = GitSource(url=f"{private.url}/origin/.git")
    with pytest.raises(Refused, match="did not let us in") as refused:
        fetch(source, tmp_path / "none")
    assert "flowforge repo add" in refused.value.hint
    with pytest.raises(Refused) as refused:
        fetch(source, tmp_path / "wrong", TokenAccess("wrong-token"))
    assert "wrong-token" not in repr(refused.value)
    places, _ = fetch(source, tmp_path / "right", TokenAccess(TOKEN))
    assert (places.files / "a").read_text() == "3\n"


def test_no_token_stays_in_the_folder_of_a_job(private: Host, tmp_path: Path) -> None:
    fetch(GitSource(url=f"{private.url}/origin/.git"), tmp_path / "job", TokenAccess(TOKEN))
    left = [path for path in (tmp_path / "job").rglob("*") if path.is_file()]
    assert len(left) > 5
    assert not [path for path in left if b"tok-en" in path.read_bytes()]


def test_a_token_is_not_carried_to_another_host(
    private: Host, tmp_path: Path, origin: Path
) -> None:
    with host(origin.parent, sends_to=private.url) as first:
        with pytest.raises(Refused):
            fetch(GitSource(url=f"{first.url}/origin/.git"), tmp_path / "job", TokenAccess(TOKEN))
        assert any(first.authorizations)
    assert private.authorizations
    assert not any(private.authorizations)


@pytest.mark.parametrize(
    ("url", "access"),
    [
        ("http://example.com/x", TokenAccess("secret-token")),
        ("https://example.com/x", KeyAccess("secret-token", "")),
        ("git@example.com:x", TokenAccess("secret-token")),
        ("ssh://git@example.com/x", None),
        ("/srv/x", TokenAccess("secret-token")),
        ("https://evil.example/x", TokenAccess("secret-token", place="example.com:443")),
        ("https://example.com:8443/x", TokenAccess("secret-token", place="example.com:443")),
    ],
)
def test_an_access_that_does_not_fit_is_refused(
    tmp_path: Path, url: str, access: Access | None
) -> None:
    with pytest.raises(Refused) as refused, granted(url, access, tmp_path):
        pytest.fail("it was granted")
    assert "secret-token" not in repr(refused.value)
    assert "secret-token" not in repr(access)


def test_a_key_is_laid_down_for_one_fetch_and_used_with_known_hosts_only(tmp_path: Path) -> None:
    access = KeyAccess("-----BEGIN\nsecret-key\n", "example.com ssh-ed25519 AAAA")
    with granted("git@example.com:a/b.git", access, tmp_path) as grant:
        words = shlex.split(grant.environment["GIT_SSH_COMMAND"])
        key = Path(words[words.index("-i") + 1])
        assert (key.read_text(), key.stat().st_mode & 0o77) == (access.private_key, 0)
        assert {"StrictHostKeyChecking=yes", "BatchMode=yes", "IdentityAgent=none"} <= set(words)
        assert grant.settings == ("-c", "protocol.ssh.allow=always")
        assert "secret-key" not in repr(grant)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("files", [{"a": "", "a/b": ""}, {"a": "", "./a": ""}, {"x" * 300: ""}])
def test_files_that_cannot_be_side_by_side_are_refused(
    tmp_path: Path, files: dict[str, str]
) -> None:
    with pytest.raises(Refused):
        asyncio.run(bring(FileSet(files=files), tmp_path / "job"))


def test_nobody_else_may_look_into_the_folder_of_a_job(tmp_path: Path) -> None:
    places, base = asyncio.run(bring(Empty(), tmp_path / "job"))
    assert places.folder.stat().st_mode & 0o77 == 0
    assert base.tree == tree_of(repository(tmp_path / "other", {}))


def test_a_large_repository_tells_how_far_it_is(origin: Path, tmp_path: Path) -> None:
    heard: list[str] = []
    asyncio.run(bring(GitSource(url=str(origin)), tmp_path / "job", heard=heard.append))
    assert any("objects" in line and "100%" in line for line in heard)


def test_an_access_is_tried_without_bringing_anything(private: Host, origin: Path) -> None:
    url = f"{private.url}/origin/.git"
    newest = try_access("forge", url, TokenAccess(TOKEN, place=place_of(url)))
    assert (newest.branch, newest.commit) == ("main", git(origin, "rev-parse", "main"))
    with pytest.raises(Refused, match="did not let us in") as refused:
        try_access("forge", url, TokenAccess("wrong-token"))
    assert "flowforge repo add forge" in refused.value.hint
    assert "wrong-token" not in repr(refused.value)
    with pytest.raises(Refused, match="There is no repository"):
        try_access("forge", f"{private.url}/none", TokenAccess(TOKEN))


def test_an_access_that_is_not_to_be_had_says_so_when_it_is_needed(tmp_path: Path) -> None:
    why = Refused("There is no access of this name.", hint="Save it.")
    with pytest.raises(Refused) as refused, granted("https://a.com/x", NoAccess(why), tmp_path):
        pytest.fail("it was granted")
    assert refused.value is why
