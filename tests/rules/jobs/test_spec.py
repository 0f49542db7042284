"""What a job may ask for, and what is refused before anybody looks at it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from flowforge.rules.jobs.spec import FileSet, GitSource, JobSpec, SandboxChoice


@pytest.mark.parametrize(
    "url",
    [
        "https://git.example.com/shop.git",
        "ssh://git@git.example.com/shop.git",
        "git@git.example.com:shop.git",
        "/srv/my repositories/shop",
        "file:///srv/my repositories/shop",
    ],
)
def test_a_repository_may_be_anywhere_git_knows(url: str) -> None:
    assert GitSource(url=url).url == url


@pytest.mark.parametrize(
    "url",
    ["https://user:password@git.example.com/shop.git", "ext::sh -c id", "-u/x", "shop", "/a\n/b"],
)
def test_a_url_with_a_password_or_a_command_in_it_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        GitSource(url=url)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../b", ".git/config", "", "a\0b"])
def test_a_file_outside_the_workspace_or_of_gits_own_is_refused(path: str) -> None:
    with pytest.raises(ValidationError):
        FileSet(files={path: "x"})


@pytest.mark.parametrize("host", ["localhost", "10.0.0.1", "http://lib.example", "pypi", "a b.org"])
def test_what_is_no_name_of_a_host_is_refused(host: str) -> None:
    with pytest.raises(ValidationError):
        SandboxChoice(egress=(host,))


def test_a_field_nobody_knows_is_refused_by_its_name() -> None:
    with pytest.raises(ValidationError, match="promt"):
        JobSpec.model_validate({"prompt": "Hello.", "promt": "Hello."})
