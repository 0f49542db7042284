"""Sessions that read the pieces of a snapshot side by side and pack them into members.

A lane is a thread and a `psql` of its own. `psql` speaks PostgreSQL's protocol, so Python only sees
blocks of COPY text: what it does to each row is to hash it. After every piece a second statement
writes a line no row can be. It is sent only when the first ended well: without it a piece whose
server process died would look whole.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from flowforge.engines.backup.dumping import pgdump, tablelocks
from flowforge.engines.backup.dumping.packing import Assembly, MemberWriter, stopped
from flowforge.engines.backup.dumping.relations import Piece, Relation
from flowforge.engines.backup.dumping.rowtext import RowSum, RowText
from flowforge.engines.backup.dumping.snapshot import Snapshot
from flowforge.engines.backup.dumping.survey import Survey
from flowforge.engines.backup.steps import reached
from flowforge.engines.postgres import connection
from flowforge.engines.postgres.installations import Installation
from flowforge.rules.addresses import PostgresAddress

READ_BYTES = 1024 * 1024
MEMBER_BYTES = 4 * 1024 * 1024
_END = b"COPY (SELECT E'\\\\. ') TO STDOUT (FORMAT csv);\n"
_BEGIN = """\\set VERBOSITY terse
\\set SHOW_CONTEXT never
SET client_encoding = {encoding};
SET synchronize_seqscans = off;
SET extra_float_digits = 3;
SET datestyle = ISO;
SET intervalstyle = POSTGRES;
SET search_path = '';
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET TRANSACTION SNAPSHOT '{snapshot}';
"""


@dataclass
class Tally:
    """What has been read of one table so far."""

    pieces_left: int
    columns: str
    rows: RowSum = field(default_factory=RowSum)


@dataclass
class Reading:
    """The pieces still to be read, and what is known of those that were."""

    assembly: Assembly
    pieces: queue.SimpleQueue[Piece]
    tallies: dict[str, Tally]
    member_bytes: int = MEMBER_BYTES
    may_send: threading.Event = field(default_factory=threading.Event)
    """Rows come behind the definitions they need; set once those are in the object."""

    stop: threading.Event = field(default_factory=threading.Event)
    raw_bytes: int = 0
    current: dict[str, str] = field(default_factory=dict)
    """What each lane is at."""

    too_large: Relation | None = None
    """A table with a row whose text the server could not make."""

    guard: threading.Lock = field(default_factory=threading.Lock)

    def note(self, piece: Piece, text: RowText) -> None:
        """Add a finished piece to its table."""
        with self.guard:
            tally = self.tallies[piece.relation.name]
            tally.pieces_left -= 1
            tally.rows.add(text)

    @property
    def tables_done(self) -> int:
        """How many tables have been read whole."""
        return sum(tally.pieces_left == 0 for tally in self.tallies.values())


class Lane:
    """One session, its `psql`, and the thread that packs what it sends."""

    def __init__(
        self,
        name: str,
        reading: Reading,
        tools: Installation,
        address: PostgresAddress,
        snapshot: Snapshot,
    ) -> None:
        seen = snapshot.survey
        self.error: BaseException | None = None
        self._name, self._reading = name, reading
        self._address, self._database, self._codec = address, seen.database.name, seen.codec
        self._process = _start(tools, address, seen)
        assert self._process.stdin is not None and self._process.stderr is not None
        self._words = pgdump.Words(self._process.stderr)
        self._tell(_begin(seen, snapshot.token))
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it is still at work."""
        return self._thread.is_alive()

    def join(self, seconds: float) -> None:
        """Wait for its end, but not longer than that."""
        self._thread.join(seconds)

    def kill(self) -> None:
        """End its session now."""
        self._process.kill()

    def _run(self) -> None:
        try:
            while not self._reading.stop.is_set():
                try:
                    piece = self._reading.pieces.get_nowait()
                except queue.Empty:
                    break
                self._reading.current[self._name] = piece.relation.name
                self._read(piece)
            self._end()
        except BaseException as error:  # noqa: BLE001  raised again by whoever waits for the lanes
            self.error = error
            self._reading.stop.set()
            self._reading.may_send.set()
            self._process.kill()
        finally:
            self._reading.current.pop(self._name, None)
            self._close()

    def _read(self, piece: Piece) -> None:
        self._tell(piece.copy_out().encode(self._codec) + _END)
        text, packed = RowText(), _Rows(self._reading, piece, self._codec)
        try:
            while not text.ended:
                packed.write(text.feed(self._receive()), text)
            packed.finish(text)
        except BaseException as error:
            packed.abandon()
            if isinstance(error, pgdump.RowTooLarge):
                self._reading.too_large = piece.relation
            raise
        self._reading.note(piece, text)

    def _receive(self) -> bytes:
        assert self._process.stdout is not None
        chunk = os.read(self._process.stdout.fileno(), READ_BYTES)
        if not chunk:
            raise self._explain()
        with self._reading.guard:
            self._reading.raw_bytes += len(chunk)
        reached("first-chunk")
        return chunk

    def _tell(self, words: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(words)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._explain() from None

    def _end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.wait() != 0 and not self._reading.stop.is_set():
            raise self._explain()

    def _explain(self) -> BaseException:
        if self._reading.stop.is_set():
            return stopped()
        status = self._process.wait()
        return pgdump.explain_failure(self._words.finish(), status, self._address, self._database)

    def _close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._words.finish()


class _Rows:
    """The members of one piece: a new one is begun whenever the last is large enough."""

    def __init__(self, reading: Reading, piece: Piece, codec: str) -> None:
        self._reading, self._piece, self._codec = reading, piece, codec
        self._writer: MemberWriter | None = None
        self._rows_before = 0

    def write(self, text: bytes, seen: RowText) -> None:
        if not text:
            return
        if self._writer is None:
            self._reading.may_send.wait()
            self._writer = self._begin()
        self._writer.write(text)
        if self._writer.packed_bytes >= self._reading.member_bytes and not seen.inside_row:
            self.finish(seen)

    def finish(self, seen: RowText) -> None:
        if self._writer is None:
            return
        self._writer.write(b"\\.\n\n")
        self._writer.finish(rows=seen.rows - self._rows_before)
        self._rows_before, self._writer = seen.rows, None

    def abandon(self) -> None:
        if self._writer is not None:
            self._writer.abandon()

    def _begin(self) -> MemberWriter:
        piece = self._piece
        pages = None if piece.first_page is None else (piece.first_page, piece.end_page)
        writer = MemberWriter(
            self._reading.assembly, "rows", table=piece.relation.name, pages=pages
        )
        writer.write(piece.copy_in().encode(self._codec))
        return writer


def run(lanes: Sequence[Lane], reading: Reading, on_tick: Callable[[], None]) -> None:
    """Wait for all lanes; the first failure ends the others and is raised.

    Args:
        lanes: They run already.
        reading: What they work on.
        on_tick: Called about twice a second.
    """
    try:
        while any(lane.alive for lane in lanes):
            for lane in lanes:
                lane.join(0.25)
            if not reading.stop.is_set():
                on_tick()
            else:
                stop(lanes, reading)
    except BaseException:
        stop(lanes, reading)
        raise
    # What failed first set the stop; the others only say that they were stopped.
    errors = [lane.error for lane in lanes if lane.error is not None]
    for error in sorted(errors, key=lambda error: "was stopped" in str(error)):
        raise error


def stop(lanes: Sequence[Lane], reading: Reading) -> None:
    """End every lane."""
    reading.stop.set()
    reading.may_send.set()
    reading.assembly.give_up()
    for lane in lanes:
        lane.kill()
    for lane in lanes:
        lane.join(10)


def _begin(seen: Survey, snapshot: str) -> bytes:
    """What a session is told first, as `pg_dump` tells its own.

    A table may be waited for, but not for ever: whoever wants to change it waits for the lock of
    the coordinator, and who comes later waits behind that.
    """
    forever = "".join(f"SET {name} = 0;\n" for name in pgdump.timeouts(seen.server.major))
    begin = _BEGIN.format(encoding=f"'{seen.database.encoding}'", snapshot=snapshot)
    return f"{forever}SET lock_timeout = '{tablelocks.WAIT_SECONDS:.0f}s';\n{begin}".encode()


def _start(tools: Installation, address: PostgresAddress, seen: Survey) -> subprocess.Popen[bytes]:
    settings = pgdump.dump_settings(seen.database.lc_monetary)
    command = [tools.program("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
    environment = connection.client_environment(address, seen.database.name, settings)
    return pgdump.start([*command, "--no-password"], environment, subprocess.PIPE)
