"""The programs of Redis on this machine."""

from __future__ import annotations

import re
import shutil
import subprocess

from flowforge.errors import Refused

PROGRAM_TIMEOUT_SECONDS = 30.0
_VERSION = re.compile(r"(?:v=|redis-cli |valkey-cli )(\d+(?:\.\d+)*)")


def find(program: str) -> str:
    """The path of a program.

    Raises:
        Refused: It is not installed.
    """
    found = shutil.which(program)
    if found is None:
        raise Refused(
            f"The program {program} is not installed here.",
            hint="Install it where operations run: apt install redis-server redis-tools.",
        )
    return found


def version(program: str) -> str:
    """The version a program says it is, for example `7.0.15`."""
    said = subprocess.run(
        [find(program), "--version"],
        capture_output=True,
        text=True,
        timeout=PROGRAM_TIMEOUT_SECONDS,
        check=False,
    ).stdout
    read = _VERSION.search(said)
    return read[1] if read else said.strip()[:40]


def major_minor(text: str) -> tuple[int, int]:
    """The first two numbers of a version; what has none counts as old."""
    numbers = [int(number) for number in re.findall(r"\d+", text)[:2]]
    return (*numbers, 0, 0)[0], (*numbers, 0, 0)[1]
