"""The program inside as one value, for places that do not share this machine's files."""

from __future__ import annotations

import functools
import io
import struct
import zipfile
from pathlib import Path

_FOLDER = Path(__file__).parent / "inside"
_SIZE = struct.Struct("!I")
_LOADER = """
import os, sys, struct
def take(size):
    data = b""
    while len(data) < size:
        more = os.read(0, size - len(data))
        if not more:
            sys.exit(1)
        data += more
    return data
path = "/tmp/.inside.zip"
with open(path, "wb") as file:
    file.write(take(struct.unpack("!I", take(4))[0]))
sys.path.append(path)
from inside.contained import main
os.unlink(path)
main()
"""

COMMAND = ("python3", "-I", "-S", "-B", "-c", _LOADER)
"""What a container runs; it then takes the program from its standard input."""


@functools.cache
def pack() -> bytes:
    """The program and how long it is, as `COMMAND` takes it."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path in sorted(_FOLDER.glob("*.py")):
            archive.writestr(zipfile.ZipInfo(f"inside/{path.name}"), path.read_bytes())
    return _SIZE.pack(len(made.getvalue())) + made.getvalue()
