"""Sessions that load the members of a copy side by side.

A lane is a thread with a session of its own. It gets the packed bytes of one member at a time,
inflates them, and passes the rows on as they are: the server reads them, Python never looks at one.
A member becomes visible only when its bytes were the right ones and its rows as many as written.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import psycopg
from isal import isal_zlib

from flowforge.engines.backup.dumptext import COPY
from flowforge.engines.backup.identifiers import canonical, identifier_parts
from flowforge.engines.backup.packing import GZIP_WINDOW
from flowforge.errors import Damaged, Unavailable
from flowforge.rules.backups import Member

END_OF_ROWS = b"\\.\n\n"
_QUEUED_CHUNKS = 8
_TEXT_BYTES = 1024 * 1024


class Lane:
    """One session and the thread that feeds it.

    Args:
        name: What the thread is called.
        enter: Opens the session.
        codec: Python's name of the copy's encoding.
        on_loaded: Called with every member that was loaded.
    """

    def __init__(
        self,
        name: str,
        enter: Callable[[], psycopg.Connection[Any]],
        codec: str,
        on_loaded: Callable[[Member], None],
    ) -> None:
        self.error: BaseException | None = None
        self._enter, self._codec, self._on_loaded = enter, codec, on_loaded
        self._session: psycopg.Connection[Any] | None = None
        self._jobs: queue.Queue[Member | None] = queue.Queue(1)
        self._chunks: queue.Queue[bytes | None] = queue.Queue(_QUEUED_CHUNKS)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_free(self) -> bool:
        """Whether it could take a member without making anybody wait."""
        return self._jobs.empty()

    def give(self, member: Member, chunks: Iterable[bytes]) -> None:
        """Hand a member over; returns when all its bytes were taken."""
        self._put(self._jobs, member)
        for chunk in chunks:
            self._put(self._chunks, chunk)
        self._put(self._chunks, None)

    def finish(self) -> None:
        """Wait until everything given was loaded; raises what went wrong."""
        if self.error is None:
            self._put(self._jobs, None)
        self._thread.join()
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        """End the session without caring for what was given."""
        self.error = self.error or Unavailable("The load was stopped.", hint="Run it again.")
        if self._session is not None:
            self._session.cancel_safe(timeout=5)
        for waiting in (self._jobs, self._chunks):
            _drain(waiting)
            waiting.put(None)
        self._thread.join(timeout=30)

    def _put(self, waiting: queue.Queue[Any], what: object) -> None:
        while True:
            if self.error is not None:
                raise self.error
            try:
                waiting.put(what, timeout=0.5)
                return
            except queue.Full:
                continue

    def _run(self) -> None:
        try:
            with self._enter() as session:
                self._session = session
                while (member := self._jobs.get()) is not None and self.error is None:
                    load_member(session, member, iter(self._chunks.get, None), self._codec)
                    self._on_loaded(member)
        except BaseException as error:  # noqa: BLE001  raised again by `give` or `finish`
            self.error = self.error or error


def load_member(
    session: psycopg.Connection[Any], member: Member, packed: Iterator[bytes], codec: str
) -> None:
    """Load the rows of one member in a transaction of its own.

    Raises:
        Damaged: Its bytes are not those that were written, or not as many rows.
    """
    text = _Unpacked(member, packed)
    statement = text.begin(codec)
    with session.transaction(), session.cursor() as cursor:
        with cursor.copy(statement) as copy:
            for rows in text.rows():
                copy.write(rows)
        if cursor.rowcount != member.rows:
            raise _damaged(member, f"{cursor.rowcount:,} rows were loaded, not {member.rows:,}")


class _Unpacked:
    """The text of a member, checked as it goes by."""

    def __init__(self, member: Member, packed: Iterator[bytes]) -> None:
        self._member = member
        self._texts = self._inflate(packed)
        self._head = b""

    def begin(self, codec: str) -> bytes:
        """The statement the text begins with; it must load the table the manifest says."""
        for text in self._texts:
            self._head += text
            found = COPY.match(self._head)
            if found and len(self._head) > found.end():
                name = identifier_parts(found["name"].decode(codec, "backslashreplace"))
                if canonical(*name) != self._member.table:
                    raise _damaged(self._member, f"it holds rows of {canonical(*name)}")
                self._head = self._head[found.end() + 1 :]
                return found[0].removesuffix(b";")
        raise _damaged(self._member, "it does not begin as the rows of a table do")

    def rows(self) -> Iterator[bytes]:
        """The rows, without the mark that ends them in a file."""
        held = self._head
        for text in self._texts:
            held += text
            yield held[: -len(END_OF_ROWS)]
            held = held[-len(END_OF_ROWS) :]
        if not held.endswith(END_OF_ROWS):
            raise _damaged(self._member, "its rows have no end")
        yield held.removesuffix(END_OF_ROWS)

    def _inflate(self, packed: Iterator[bytes]) -> Iterator[bytes]:
        sha256, raw_bytes = hashlib.sha256(), 0
        unpacker = isal_zlib.decompressobj(GZIP_WINDOW)
        for chunk in packed:
            sha256.update(chunk)
            while chunk and not unpacker.eof:
                text = unpacker.decompress(chunk, _TEXT_BYTES)
                chunk = unpacker.unconsumed_tail
                raw_bytes += len(text)
                yield text
        # Before the end is given on, so that a wrong member is never committed.
        if sha256.hexdigest() != self._member.sha256 or raw_bytes != self._member.raw_bytes:
            raise _damaged(self._member, "its bytes are not those that were written")


def prepare(session: psycopg.Connection[Any], encoding: str, settings: Mapping[str, str]) -> None:
    """Set a session up as the head of a dump does."""
    for name, value in {"client_encoding": encoding, **settings}.items():
        session.execute("SELECT set_config(%s, %s, false)", (name, value))


def deal(lanes: list[Lane], member: Member, chunks: Iterable[bytes], turn: int) -> None:
    """Give a member to a lane that is free, or else to the one whose turn it is."""
    free = next((lane for lane in lanes if lane.is_free), lanes[turn % len(lanes)])
    free.give(member, chunks)


def _damaged(member: Member, cause: str) -> Damaged:
    return Damaged(
        f"The rows of {member.table} at byte {member.offset:,} of the copy are damaged: {cause}.",
        hint="Do not use this copy; the tables that are whole can be restored one by one.",
        table=member.table,
    )


def _drain(waiting: queue.Queue[Any]) -> None:
    while True:
        try:
            waiting.get_nowait()
        except queue.Empty:
            return
