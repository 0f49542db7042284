"""Sessions that load the members of a copy side by side.

A lane is a thread with a session of its own. It gets the packed bytes of one member at a time,
inflates them, and passes the rows on as they are: the server reads them, Python never looks at one.
A member becomes visible only when its bytes were the right ones and its rows as many as written.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from isal import isal_zlib

from flowforge.engines.backup.dumping.dumptext import COPY
from flowforge.engines.backup.dumping.identifiers import canonical, identifier_parts, quoted
from flowforge.engines.backup.dumping.packing import GZIP_WINDOW
from flowforge.engines.backup.loading.reading import BrokenGzip
from flowforge.errors import Damaged, Unavailable
from flowforge.rules.backups import Member

END_OF_ROWS = b"\\.\n\n"
_QUEUED_CHUNKS = 8
_TEXT_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Job:
    """One member to be loaded.

    A table that no other session loads is emptied first and loaded in one transaction: the server
    then need not log its rows where it keeps no log for replicas, and can freeze them at once.
    """

    member: Member
    alone: bool
    """Whether this session alone loads the table."""

    first: bool = True
    last: bool = True


class Lane:
    """One session and the thread that feeds it.

    Args:
        name: What the thread is called.
        enter: Opens the session.
        codec: Python's name of the copy's encoding.
        places: How many sessions may work at once.
        on_loaded: Called with every member that was loaded.
    """

    def __init__(
        self,
        name: str,
        enter: Callable[[], psycopg.Connection[Any]],
        codec: str,
        places: threading.Semaphore,
        on_loaded: Callable[[Member], None],
    ) -> None:
        self.error: BaseException | None = None
        self._enter, self._codec, self._on_loaded = enter, codec, on_loaded
        self._places = places
        self._session: psycopg.Connection[Any] | None = None
        self._jobs: queue.Queue[Job | None] = queue.Queue(1)
        self._chunks: queue.Queue[bytes | None] = queue.Queue(_QUEUED_CHUNKS)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_free(self) -> bool:
        """Whether it could take a member without making anybody wait."""
        return self._jobs.empty()

    def give(self, job: Job, chunks: Iterable[bytes]) -> None:
        """Hand a member over; returns when all its bytes were taken."""
        self._put(self._jobs, job)
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
                while (job := self._jobs.get()) is not None and self.error is None:
                    with self._places:
                        if job.first:
                            frozen = begin(session, job)
                        chunks = iter(self._chunks.get, None)
                        load(session, job, chunks, self._codec, frozen=frozen)
                    self._on_loaded(job.member)
        except BaseException as error:  # noqa: BLE001  raised again by `give` or `finish`
            self.error = self.error or error


def begin(session: psycopg.Connection[Any], job: Job) -> bool:
    """Begin the transaction that fills a table; tell whether its rows can be frozen at once."""
    session.execute("BEGIN")
    return job.alone and _empty(session, job.member)


def load(
    session: psycopg.Connection[Any],
    job: Job,
    packed: Iterator[bytes],
    codec: str,
    *,
    frozen: bool,
) -> None:
    """Load the rows of one member; they are committed with the last one of its table at the latest.

    Raises:
        Damaged: Its bytes are not those that were written, or not as many rows.
    """
    member, text = job.member, _Unpacked(job.member, packed)
    statement = text.begin(codec) + (b" WITH (FREEZE)" if frozen else b"")
    with session.cursor() as cursor:
        with cursor.copy(statement) as copy:
            for rows in text.rows():
                copy.write(rows)
        if cursor.rowcount != member.rows:
            raise _damaged(member, f"{cursor.rowcount:,} rows were loaded, not {member.rows:,}")
    if job.last:
        session.execute("COMMIT")


def _empty(session: psycopg.Connection[Any], member: Member) -> bool:
    """Empty a table in the transaction that will fill it; tell whether the role may."""
    assert member.table is not None
    name = quoted(*identifier_parts(member.table))
    try:
        session.execute(f"TRUNCATE ONLY {name}".encode(session.info.encoding))
    except psycopg.errors.InsufficientPrivilege:
        session.execute("ROLLBACK")
        session.execute("BEGIN")
        return False
    return True


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
            try:
                while chunk and not unpacker.eof:
                    text = unpacker.decompress(chunk, _TEXT_BYTES)
                    chunk = unpacker.unconsumed_tail
                    raw_bytes += len(text)
                    yield text
            except BrokenGzip as error:
                raise _damaged(self._member, "its gzip is broken") from error
        # Before the end is given on, so that a wrong member is never committed.
        if sha256.hexdigest() != self._member.sha256 or raw_bytes != self._member.raw_bytes:
            raise _damaged(self._member, "its bytes are not those that were written")


def prepare(session: psycopg.Connection[Any], settings: Mapping[str, str]) -> None:
    """Give a session settings that last as long as it does."""
    for name, value in settings.items():
        session.execute("SELECT set_config(%s, %s, false)", (name, value))


class Dealer:
    """Deals members to lanes: those of a table one lane can load to that lane, others to any.

    Args:
        lanes: The lanes.
        members: All members of the copy, which say how many each table has.
    """

    def __init__(self, lanes: Sequence[Lane], members: Iterable[Member]) -> None:
        self._lanes = lanes
        self._turn = 0
        self._left: dict[str | None, int] = Counter(m.table for m in members if m.kind == "rows")
        self._lane_of: dict[str | None, Lane] = {}

    def deal(self, member: Member, chunks: Iterable[bytes]) -> None:
        """Give a member to the lane it belongs to; returns when its bytes were taken."""
        alone = member.pages is None
        first = member.table not in self._lane_of
        self._left[member.table] -= 1
        last = not self._left[member.table]
        lane = self._choose() if first or not alone else self._lane_of[member.table]
        self._lane_of[member.table] = lane
        lane.give(Job(member, alone, first or not alone, last or not alone), chunks)
        if last:
            del self._lane_of[member.table]

    def _choose(self) -> Lane:
        """A lane that is free and in the middle of no table, or else the one whose turn it is."""
        self._turn += 1
        busy = list(self._lane_of.values())
        turned = [self._lanes[(self._turn + n) % len(self._lanes)] for n in range(len(self._lanes))]
        return min(turned, key=lambda lane: (busy.count(lane), not lane.is_free))


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
