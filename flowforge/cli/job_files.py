"""A job and the folder it is about: its files go with the job, its patch comes back."""

from __future__ import annotations

import base64
import os
import re
import stat
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from flowforge import terminal
from flowforge.errors import Refused
from flowforge.rules import names
from flowforge.rules.jobs import submission
from flowforge.rules.jobs.submission import MAX_FILES_BYTES

_REMOTE = re.compile(r"^((https?|ssh|file)://|git@)")
_GIT_SECONDS = 120
_PUSH_IT = "Push it to a repository and give its URL to --repo, or a smaller folder."


@dataclass
class Gathered:
    """The files of a folder as they go with a job."""

    files: dict[str, str] = field(default_factory=dict)
    binary: dict[str, str] = field(default_factory=dict)
    """Base64."""

    executable: list[str] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    """What each symbolic link says."""

    left_out: list[str] = field(default_factory=list)
    """Submodules, and symbolic links that lead out of the folder."""

    size_bytes: int = 0


def workspace_of(repo: str, ref: str | None, access: str | None) -> tuple[dict[str, object], Path]:
    """What a job works on, and the folder its patch belongs to.

    Args:
        repo: The URL of a repository, or a folder of this machine.
        ref: A branch, tag or commit of a repository.
        access: Name of the saved access to it.

    Raises:
        Refused: It is neither, holds a password, or is too large.
    """
    if names.looks_like_secret(repo):
        raise Refused(
            "An address with a password does not belong on a command line.",
            hint="Save the access with `flowforge repo add NAME`, and name it with --access.",
        )
    if _REMOTE.match(repo):
        source: dict[str, object] = {"kind": "git", "url": repo, "ref": ref or "HEAD"}
        return source | ({"secret": access} if access else {}), Path.cwd()
    folder = Path(repo)
    if not folder.is_dir():
        raise Refused(f"{repo} is no folder.", hint="Give a folder, or the URL of a repository.")
    if ref or access:
        raise Refused(
            "--ref and --access belong to the URL of a repository.",
            hint=f"Leave them out, or give file://{folder.resolve()}.",
        )
    found = gather(folder)
    if found.left_out:
        said = "Submodules and links that lead out of the folder do not go with a job; left out"
        said += f": {', '.join(found.left_out)}"
        terminal.err.print(terminal.show(said), markup=False)
    parts = ("files", "binary", "executable", "links")
    return {"kind": "files", **{part: getattr(found, part) for part in parts}}, folder


def gather(folder: Path) -> Gathered:
    """Read the files of a folder; of a repository those Git does not ignore.

    Raises:
        Refused: There is too much, or something cannot be read.
    """
    found = Gathered()
    for name in sorted(_names(folder)):
        path = folder / name
        if path.is_symlink():
            _take_link(found, name, path)
        elif path.is_dir():
            found.left_out.append(name)
        elif path.is_file():
            _take(found, name, path)
    return found


def apply(patch: bytes, folder: Path) -> None:
    """Apply a patch to a folder, wholly or not at all.

    Raises:
        Refused: It does not apply; nothing was touched.
    """
    for arguments in (("--check",), ()):
        done = _git(folder, "apply", "--whitespace=nowarn", *arguments, "-", input=patch)
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise Refused(
                f"The patch does not apply to {folder}: {said[0] if said else 'no reason given'}",
                hint="The files have changed since. Save the patch with `flowforge job patch -o`, "
                "and apply it with `git apply --3way`.",
            )


def _names(folder: Path) -> Iterable[str]:
    inside = _git(folder, "rev-parse", "--is-inside-work-tree")
    if inside.returncode == 0 and inside.stdout.strip() == b"true":
        listed = _git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        if listed.returncode != 0:
            raise Refused(
                f"Git cannot list the files of {folder}.", hint="Look at `git status` there."
            )
        return {os.fsdecode(name) for name in listed.stdout.split(b"\0") if name}
    return _walk(folder)


def _walk(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        folders[:] = [one for one in folders if one != ".git"]
        links = [one for one in folders if (Path(place) / one).is_symlink()]
        for name in (*files, *links):
            yield str((Path(place) / name).relative_to(folder))


def _take_link(found: Gathered, name: str, path: Path) -> None:
    target = os.readlink(path)  # noqa: PTH115 - word for word
    if submission.stays_inside(name, target):
        found.links[name] = target
    else:
        found.left_out.append(name)


def _take(found: Gathered, name: str, path: Path) -> None:
    try:
        about = path.stat()
        found.size_bytes += about.st_size
        content = path.read_bytes() if found.size_bytes <= MAX_FILES_BYTES else b""
    except OSError as error:
        raise Refused(
            f"{path} cannot be read: {error.strerror}.",
            hint="Correct its rights, or let .gitignore name it.",
        ) from error
    if found.size_bytes > MAX_FILES_BYTES:
        raise Refused(
            f"The files have more than {MAX_FILES_BYTES / 2**20:.0f} MiB, up to {name}.",
            hint=_PUSH_IT,
        )
    if about.st_mode & stat.S_IXUSR:
        found.executable.append(name)
    text = _as_text(content)
    if text is None:
        found.binary[name] = base64.b64encode(content).decode()
    else:
        found.files[name] = text


def _as_text(content: bytes) -> str | None:
    try:
        return None if b"\0" in content else content.decode()
    except UnicodeDecodeError:
        return None


def _git(
    folder: Path, command: str, *arguments: str, input: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    # A folder inside of a repository is taken for itself: paths in the patch begin there.
    above = {"GIT_CEILING_DIRECTORIES": str(folder.resolve().parent)} if command == "apply" else {}
    try:
        return subprocess.run(
            ["git", "-C", str(folder), "-c", "core.fsmonitor=false", command, *arguments],
            input=input,
            env=os.environ | above | {"LC_ALL": "C"},
            capture_output=True,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise Refused("Git is not installed.", hint="Install git, then try again.") from error
    except subprocess.TimeoutExpired as error:
        raise Refused(
            f"Git took more than {_GIT_SECONDS} s in {folder}.", hint="Look at `git status` there."
        ) from error
