"""What is wrong with a job that is well formed, said when it is submitted and not an hour later."""

from __future__ import annotations

from datetime import datetime
from pathlib import PurePosixPath

from flowforge.rules.jobs.spec import Empty, FileSet, JobSpec
from flowforge.rules.values import Value

MAX_FILES_BYTES = 16 * 1024 * 1024
"""The most that may come with a job itself; what is larger belongs in a repository."""

_INSIDE = ("internal", "local", "localhost", "localdomain", "lan", "home", "corp", "svc")


class Problem(Value):
    """One field that cannot be as it is."""

    field: str
    """Its place in the spec: `workspace.files`."""

    message: str


def find_problems(spec: JobSpec, now: datetime) -> list[Problem]:
    """Everything that would keep a job from going well, as far as the spec alone tells.

    Args:
        spec: What is asked for.
        now: With its zone.
    """
    return [
        *_of_workspace(spec),
        *_of_egress(spec),
        *_of_tools(spec),
        *_of_deadline(spec, now),
    ]


def _of_workspace(spec: JobSpec) -> list[Problem]:
    if not isinstance(spec.workspace, FileSet):
        return []
    files, binary = spec.workspace.files, spec.workspace.binary
    size = sum(len(text.encode(errors="replace")) for text in files.values())
    size += sum(map(len, binary.values()))
    found = []
    if size > MAX_FILES_BYTES:
        most = f"{MAX_FILES_BYTES / 2**20:.0f} MiB"
        message = f"The files have {size / 2**20:.1f} MiB, more than {most}; give a repository."
        found.append(Problem(field="workspace.files", message=message))
    paths = spec.workspace.paths
    names = {PurePosixPath(path) for path in paths}
    if len(names) < len(paths):
        found.append(Problem(field="workspace.files", message="A path is given twice."))
    folders = {folder for name in names for folder in name.parents}
    for name in sorted(names & folders):
        message = f"{str(name)!r} is a file and a folder at once."
        found.append(Problem(field="workspace.files", message=message))
    return [*found, *_of_programs(spec.workspace), *_of_links(spec.workspace)]


def _of_programs(given: FileSet) -> list[Problem]:
    unknown = sorted({*given.executable} - {*given.files, *given.binary})
    message = "{!r} is none of the files."
    field = "workspace.executable"
    return [Problem(field=field, message=message.format(path)) for path in unknown]


def _of_links(given: FileSet) -> list[Problem]:
    found = []
    for path, target in sorted(given.links.items()):
        if not stays_inside(path, target):
            message = f"{path!r} leads out of the workspace; give what it stands for."
            found.append(Problem(field="workspace.links", message=message))
    return found


def stays_inside(path: str, target: str) -> bool:
    """Whether a symbolic link leads to somewhere in its workspace, whatever other links there are.

    Args:
        path: Where the link is. What is above it are folders, never links.
        target: What it says.
    """
    if not target or target.startswith("/") or "\0" in target:
        return False
    parts = [part for part in target.split("/") if part not in ("", ".")]
    ups = next((n for n, part in enumerate(parts) if part != ".."), len(parts))
    # Behind a name, which may be a link itself, nobody knows what `..` is.
    return ups < len(PurePosixPath(path).parts) and ".." not in parts[ups:]


def _of_egress(spec: JobSpec) -> list[Problem]:
    found = []
    for place, host in enumerate(spec.sandbox.egress):
        name = host.partition(":")[0]
        labels = name.removeprefix("*.").split(".")
        if labels[-1] in _INSIDE or "svc" in labels[:-1]:
            message = f"{host} is a host of an inner network; jobs reach only the public one."
        elif name.startswith("*.") and len(labels) == 1:
            message = f"{host} is every host below .{labels[0]}; name those that are needed."
        else:
            continue
        found.append(Problem(field=f"sandbox.egress.{place}", message=message))
    return found


def _of_tools(spec: JobSpec) -> list[Problem]:
    found = []
    if not spec.tools and not isinstance(spec.workspace, Empty):
        message = "Without tools nothing can look at the files; leave the workspace empty."
        found.append(Problem(field="workspace", message=message))
    if spec.secrets and not spec.sandbox.egress:
        message = "Secrets are added to requests that leave; name their hosts in sandbox.egress."
        found.append(Problem(field="secrets", message=message))
    return found


def _of_deadline(spec: JobSpec, now: datetime) -> list[Problem]:
    if spec.deadline is None:
        return []
    if spec.deadline.tzinfo is None:
        message = "Say in which zone, such as 2026-05-01T12:00:00Z."
    elif spec.deadline <= now:
        message = "It is over already."
    else:
        return []
    return [Problem(field="deadline", message=message)]
