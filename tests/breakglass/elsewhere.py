"""Another machine: a root file system of its own with Debian's programs and nothing of FlowForge.

Its root is read-only, its temporary folder is 16 MiB, and there is no network: what a command does
there it does with what it was given.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

TMP_BYTES = 16 * 1024 * 1024
_NO_RIGHTS = ("--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
_SYSTEM = ("usr", "bin", "lib", "lib64", "sbin", "etc/passwd", "etc/group", "etc/ld.so.cache")


def run_there(
    root: Path,
    script: str,
    *,
    given: Mapping[str, Path],
    environment: Mapping[str, str],
    programs: Sequence[Path] = (),
    read_only: Sequence[Path] = (),
    user: int = 0,
) -> subprocess.CompletedProcess[str]:
    """Run a script of bash in the other machine.

    Args:
        root: An empty folder to build it in.
        script: What to run; it stops at the first failure, in a pipe, too.
        given: Places there and the folders or files of this machine that appear in them.
        environment: All variables it has.
        programs: Folders to find programs in, before the system's own.
        read_only: Folders of this machine that are there, too, at the same place.
        user: Who runs it, without any right of the superuser. Inside a user's own namespace there
            is nobody else to be: then it is that user.
    """
    unshare = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child"]
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *_NO_RIGHTS]
    if os.geteuid() != 0:
        unshare += ["--map-root-user"]
    if os.geteuid() != 0 or user == 0:
        become = []
    if (
        shutil.which("unshare") is None
        or subprocess.run([*unshare, "true"], check=False).returncode
    ):
        pytest.skip("no namespaces for this user here: run as root, or allow user namespaces")
    path = ":".join([*map(str, programs), "/usr/bin", "/bin"])
    told = [f"{name}={value}" for name, value in {**environment, "PATH": path}.items()]
    inside = [
        "chroot",
        str(root),
        *become,
        "/usr/bin/env",
        "-i",
        *told,
        "/bin/bash",
        "-euo",
        "pipefail",
    ]
    lines = ["set -e", f"mount -t tmpfs tmpfs {shlex.quote(str(root))}"]
    # First, since a checkout may itself lie below the temporary folder.
    lines += [f"mkdir -p {shlex.quote(str(root))}/{{tmp,dev,proc}}"]
    lines += [f"mount -t tmpfs -o size={TMP_BYTES} tmpfs {shlex.quote(str(root / 'tmp'))}"]
    lines += [_bind(Path("/", place), root / place, "ro") for place in _SYSTEM]
    lines += [_bind(here, root / str(here).lstrip("/"), "ro") for here in read_only]
    lines += [_bind(here, root / there.lstrip("/")) for there, here in given.items()]
    lines += [f"mount -t proc proc {shlex.quote(str(root / 'proc'))}"]
    lines += [_bind(Path("/dev", node), root / "dev" / node) for node in ("null", "urandom")]
    lines += [f"mount -o remount,ro {shlex.quote(str(root))}"]
    lines += [f"exec {shlex.join([*inside, '-c', script])}"]
    return subprocess.run(
        [*unshare, "bash", "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def _bind(here: Path, there: Path, options: str = "") -> str:
    """The lines that make a place of this machine appear in the other one."""
    if here.is_symlink():
        target = shlex.quote(str(here.readlink()))
        return f"ln -s {target} {shlex.quote(str(there))}"
    quoted = shlex.quote(str(there))
    parent = f"mkdir -p {shlex.quote(str(there.parent))}"
    made = f"mkdir -p {quoted}" if here.is_dir() else f"touch {quoted}"
    bound = f"{parent} && {made} && mount --rbind {shlex.quote(str(here))} {quoted}"
    return f"{bound} && mount -o remount,bind,ro {quoted}" if options else bound
