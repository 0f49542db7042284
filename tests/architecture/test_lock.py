"""requirements.lock is what pyproject.toml asks for: whole, hashed, and tied to no address."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
_ADDRESS = re.compile(r"https?://|file:|--(?:extra-)?index-url|--find-links|^-i ", re.MULTILINE)


@dataclass(frozen=True)
class Locked:
    requirement: Requirement
    hashes: int

    @property
    def version(self) -> str:
        return str(self.requirement.specifier).removeprefix("==")


def read_lock(text: str) -> dict[str, Locked]:
    """Every line of a lock that applies to this machine, by name."""
    found: dict[str, Locked] = {}
    for entry in text.replace("\\\n", " ").splitlines():
        words = entry.split(" --hash=")
        if not words[0].strip() or words[0].lstrip().startswith(("#", "-")):
            continue
        requirement = Requirement(words[0].strip())
        if requirement.marker is None or requirement.marker.evaluate():
            name = canonicalize_name(requirement.name)
            found[name] = Locked(requirement, sum(w.startswith("sha256:") for w in words[1:]))
    return found


def read_wanted(pyproject: str) -> list[Requirement]:
    """What a pyproject.toml asks for, its extras `twin` and `dev` included."""
    project = tomllib.loads(pyproject)["project"]
    extras = project.get("optional-dependencies", {})
    lines = [*project["dependencies"], *extras.get("twin", []), *extras.get("dev", [])]
    return [Requirement(line) for line in lines]


def problems_of(
    wanted: Iterable[Requirement],
    locked: dict[str, Locked],
    requires: Callable[[str], list[str]],
) -> list[str]:
    """What is asked for, directly or by something that is, and not locked as asked."""
    problems, seen = set(), set()
    waiting = [(requirement, "pyproject.toml", "") for requirement in wanted]
    while waiting:
        requirement, asker, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        if name not in locked:
            problems.add(f"{asker} needs {requirement.name}, which is not locked")
            continue
        if not requirement.specifier.contains(locked[name].version, prereleases=True):
            problems.add(f"{asker} needs {requirement}, locked is {locked[name].version}")
        for chosen in ["", *requirement.extras]:
            if (name, chosen) not in seen:
                seen.add((name, chosen))
                waiting += [(Requirement(line), name, chosen) for line in requires(name)]
    return sorted(problems)


def installed_requires(name: str) -> list[str]:
    return metadata.requires(name) or []


def test_the_lock_is_complete_and_satisfies_the_project() -> None:
    wanted = read_wanted((ROOT / "pyproject.toml").read_text())
    locked = read_lock((ROOT / "requirements.lock").read_text())
    assert problems_of(wanted, locked, installed_requires) == []


def test_what_is_installed_is_what_is_locked() -> None:
    locked = read_lock((ROOT / "requirements.lock").read_text())
    installed = {name: metadata.version(name) for name in locked}
    assert installed == {name: entry.version for name, entry in locked.items()}


def test_the_lock_has_a_hash_for_each_and_no_address() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert not _ADDRESS.search(text)
    assert [name for name, entry in read_lock(text).items() if not entry.hashes] == []


SAMPLE = """\
alpha==1.5 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
beta==2.0
gamma==1.0 ; sys_platform == 'no-such-system'
"""


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        (["alpha>=1"], None),
        (["alpha>=2"], "pyproject.toml needs alpha>=2, locked is 1.5"),
        (["gamma"], "pyproject.toml needs gamma, which is not locked"),
        (["gamma ; sys_platform == 'no-such-system'"], None),
        (["beta"], "beta needs delta, which is not locked"),
        (["alpha[fast]"], "alpha needs epsilon, which is not locked"),
    ],
)
def test_a_lock_that_does_not_fit_is_named(wanted: list[str], problem: str | None) -> None:
    needs = {"beta": ["delta"], "alpha": ["epsilon ; extra == 'fast'"]}
    found = problems_of(
        [Requirement(line) for line in wanted],
        read_lock(SAMPLE),
        lambda name: needs.get(name, []),
    )
    assert found == ([problem] if problem else [])


def test_a_lock_without_a_hash_is_seen() -> None:
    assert {name: entry.hashes for name, entry in read_lock(SAMPLE).items()} == {
        "alpha": 2,
        "beta": 0,
    }


@pytest.mark.parametrize(
    "line", ["--index-url https://host/simple", "-i x", "a @ file:///a.whl", "# from http://host"]
)
def test_an_address_in_a_lock_is_seen(line: str) -> None:
    assert _ADDRESS.search(f"alpha==1\n{line}\n")
