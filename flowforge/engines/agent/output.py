"""The output of a command: masked on its way to a file, of which head and tail are shown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from flowforge.engines.agent.redaction import RedactedFile, Redactor
from flowforge.engines.sandboxes.sandbox import HEAD_BYTES, SPOOL_BYTES, TAIL_BYTES, Ran
from flowforge.rules.jobs.output import is_text, shorten

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True)
class Shown:
    """What the model sees of an output, and where people find all of it."""

    text: str
    artifact: Path | None
    """The masked bytes; none when the text is all there was."""


class OutputFiles:
    """Where the outputs of a job's commands are kept until they are stored.

    Args:
        folder: For nothing else.
        redactor: Masks the job's secrets in all of it.
        limit: The most characters that the model sees of one.
    """

    def __init__(self, folder: Path, redactor: Redactor, limit: int) -> None:
        self._folder = folder
        self._redactor = redactor
        self._limit = limit

    def open(self, tool_use_id: str) -> RedactedFile:
        """A file for the output of one call; one of the same call before is replaced."""
        path = self._path(tool_use_id)
        path.unlink(missing_ok=True)
        return self._redactor.file(path)

    def show(self, tool_use_id: str, ran: Ran) -> Shown:
        """What to show of a call whose file is closed."""
        path = self._path(tool_use_id)
        head, tail, total = self._read(path, ran)
        text = shorten(head, tail, total, limit=self._limit, artifact=path.name)
        if total == len(head) + len(tail) <= self._limit and is_text(head + tail):
            path.unlink()
            return Shown(text, None)
        if not is_text(head) or not is_text(tail.lstrip(bytes(range(0x80, 0xC0)))):
            text += f"\n[not all of it is text; as it was: artifact {path.name}]"
        return Shown(text, path)

    def discard(self, tool_use_id: str) -> None:
        """Remove what a call wrote that did not come to an end."""
        self._path(tool_use_id).unlink(missing_ok=True)

    def _path(self, tool_use_id: str) -> Path:
        return self._folder / f"output-{_UNSAFE.sub('_', tool_use_id)[:80]}.txt"

    def _read(self, path: Path, ran: Ran) -> tuple[bytes, bytes, int]:
        """Head, tail and size, as masked as the file is."""
        with path.open("rb") as file:
            size = path.stat().st_size
            head = file.read(HEAD_BYTES)
            if ran.output_bytes > SPOOL_BYTES:  # the file does not go to the end
                tail = self._redactor.data_after_a_cut(ran.tail)
                return head, tail, size + ran.output_bytes - SPOOL_BYTES
            file.seek(max(size - TAIL_BYTES, len(head)))
            return head, file.read(), size
