"""What somebody asks for: a prompt, a workspace, limits.

The same values are the body of the HTTP API, the parameters of the flow and the form in the UI, so
every field says what it means.
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Base64Bytes, BeforeValidator, Field

from flowforge.rules.values import Value

DEFAULT_MODEL = "claude-opus-5-5"
MOST_CPUS = 64.0
MOST_MB = 1_048_576
"""The most any sandbox may have; profiles allow less."""

_NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
_HOST = re.compile(r"^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}(:\d{1,5})?$")


def _relative(path: str) -> str:
    """A path that stays inside a workspace and is no part of Git's own files."""
    parts = PurePosixPath(path).parts
    if not path or path.startswith("/") or "\0" in path or ".." in parts:
        raise ValueError(f"{path!r} does not lie inside the workspace")
    if any(part.casefold().rstrip(". ") in (".git", "git~1") for part in parts):
        raise ValueError(f"{path!r} is a part of Git's own files")
    return path


def check_host(name: str) -> str:
    """Return the name of a host, unchanged.

    Raises:
        ValueError: It is an address, or of another form.
    """
    if not _HOST.match(name):
        raise ValueError(
            f"{name!r} is not the name of a host, such as lib.example or lib.example:443"
        )
    return name


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("a NUL cannot be stored")
    return text


RelativePath = Annotated[str, AfterValidator(_relative)]
Host = Annotated[str, BeforeValidator(str.lower), AfterValidator(check_host)]
Text = Annotated[str, AfterValidator(_no_nul)]
Name = Annotated[str, Field(pattern=_NAME)]


REPOSITORY = r"^(https?://[^@\s]+|ssh://\S+|git@\S+:\S+|file:///[^\n]+|/[^\n]+)$"
"""The URL of a repository, without a password in it."""


class GitSource(Value):
    """A commit of a Git repository."""

    kind: Literal["git"] = "git"
    url: str = Field(
        description="https://..., ssh://... or a local path; without a password in it",
        pattern=REPOSITORY,
    )
    ref: str = Field(default="HEAD", description="A branch, tag or commit", min_length=1)
    subdir: RelativePath | None = Field(
        default=None, description="Work on this folder of it only; the rest is not shown"
    )
    depth: int = Field(default=1, ge=1, description="How many commits of its past are fetched")
    secret: Name | None = Field(
        default=None,
        description="Name of the saved access to it; the sandbox never sees what is in it",
    )


class FileSet(Value):
    """Files given with the job itself."""

    kind: Literal["files"] = "files"
    files: dict[RelativePath, str] = Field(default_factory=dict, description="Text, by path")
    binary: dict[RelativePath, Base64Bytes] = Field(
        default_factory=dict, description="Other content, base64, by path"
    )
    executable: tuple[RelativePath, ...] = Field(
        default=(), description="Which of these files are programs"
    )
    links: dict[RelativePath, str] = Field(
        default_factory=dict, description="Symbolic links, by path: what each of them says"
    )

    @property
    def paths(self) -> list[str]:
        """Where something is, in order."""
        return sorted([*self.files, *self.binary, *self.links])


class Empty(Value):
    """An empty folder."""

    kind: Literal["empty"] = "empty"


Workspace = Annotated[GitSource | FileSet | Empty, Field(discriminator="kind")]


class Limits(Value):
    """What a job may use. The first limit reached ends it, with what was done until then kept."""

    usd: float = Field(default=2.0, gt=0, le=10_000, description="US dollars")
    turns: int = Field(default=60, ge=1, le=10_000, description="Replies of the model")
    output_tokens: int | None = Field(
        default=None, ge=1, description="Tokens the model may write in all"
    )
    wall_seconds: float = Field(
        default=3600, gt=0, le=7 * 86_400, description="At work; what it waits does not count"
    )
    tool_seconds: float = Field(default=120, gt=0, le=86_400, description="One command")
    tool_output: int = Field(
        default=20_000, ge=200, le=1_000_000, description="Characters of output the model is shown"
    )
    idle_seconds: float = Field(
        default=300, gt=0, description="A reply that stands still for so long is asked for again"
    )


class SandboxChoice(Value):
    """Where its commands run."""

    profile: Name = Field(default="default", description="Name of a saved sandbox profile")
    image: str | None = Field(default=None, description="Container image, where there is one")
    cpus: float = Field(default=1.0, gt=0, le=MOST_CPUS)
    memory_mb: int = Field(default=2048, ge=64, le=MOST_MB)
    disk_mb: int = Field(default=4096, ge=16, le=MOST_MB)
    egress: tuple[Host, ...] = Field(
        default=(), description="Hosts its commands may reach by HTTPS; none by default"
    )


class Approval(Value):
    """Which commands wait for a person."""

    commands: tuple[str, ...] = Field(
        default=(), description="Shell patterns such as `git push*`; `*` is every command"
    )
    wait_seconds: float = Field(
        default=3600, gt=0, le=7 * 86_400, description="Without an answer it counts as a no"
    )


class JobSpec(Value):
    """One agent job."""

    prompt: Text = Field(description="What Claude shall do", min_length=1, max_length=500_000)
    system: Text | None = Field(default=None, description="Instructions put before the prompt")
    model: str = Field(
        default=DEFAULT_MODEL, description="Identifier of the model", min_length=1, max_length=200
    )
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = Field(
        default=None, description="How hard the model thinks; its own default when empty"
    )
    max_tokens: int = Field(default=16_000, ge=1, description="The most one reply may hold")
    workspace: Workspace = Field(default=Empty(), description="The files it works on")
    tools: tuple[Literal["bash", "edit"], ...] = Field(
        default=("bash", "edit"), description="None at all makes a job of a single reply"
    )
    output_schema: dict[str, Any] | None = Field(
        default=None, description="JSON schema the last reply must fit"
    )
    sandbox: SandboxChoice = SandboxChoice()
    limits: Limits = Limits()
    approval: Approval = Approval()
    secrets: tuple[Name, ...] = Field(
        default=(),
        description="Names of secrets the egress proxy adds to requests; never in the sandbox",
    )
    priority: int = Field(default=0, ge=-100, le=100, description="Higher goes first")
    deadline: datetime | None = Field(
        default=None,
        description="Must be done by then. A job without tools whose deadline is at least a day "
        "away goes by batch, at half the price",
    )
    callback: str | None = Field(
        default=None, description="URL told, signed, when it has ended", pattern=r"^https?://\S+$"
    )
    tenant: Name = Field(default="default", description="Whose budget it uses")
    labels: dict[str, str] = Field(default_factory=dict, max_length=32)
