"""What is wrong with the files that come with a job."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from flowforge.rules.jobs import submission
from flowforge.rules.jobs.spec import FileSet, JobSpec

NOW = datetime(2026, 5, 1, tzinfo=UTC)
FILES = {"run.sh": "exit 0\n", "lib/a.py": "a = 1\n"}


def problems(**given: Any) -> list[str]:
    spec = JobSpec(prompt="Do it.", workspace=FileSet.model_validate({"files": FILES} | given))
    return [one.field for one in submission.find_problems(spec, NOW)]


def test_programs_and_links_inside_of_the_files_are_fine() -> None:
    links = {"sh": "run.sh", "lib/sh": "../run.sh", "lib/self": ".", "gone": "no/where"}
    assert problems(executable=["run.sh"], links=links) == []


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"executable": ["other.sh"]}, "workspace.executable"),
        ({"links": {"out": "/etc/passwd"}}, "workspace.links"),
        ({"links": {"out": ".."}}, "workspace.links"),
        ({"links": {"lib/out": "../../etc"}}, "workspace.links"),
        ({"links": {"out": "lib/../x"}}, "workspace.links"),  # lib may be a link itself
        ({"links": {"out": ""}}, "workspace.links"),
        ({"links": {"run.sh": "lib"}}, "workspace.files"),
        ({"links": {"lib": "run.sh"}}, "workspace.files"),
        ({"links": {"a": "lib", "a/b": "run.sh"}}, "workspace.files"),
    ],
)
def test_what_leads_out_of_the_files_or_is_none_of_them_is_named(
    given: dict[str, Any], field: str
) -> None:
    assert problems(**given) == [field]
