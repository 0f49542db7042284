"""Build indexes side by side, each as soon as the rows of its table are there.

Most of the time of a restore goes into them. Sessions that load and sessions that build share as
many places as the restore may use at once.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import psycopg

from flowforge.engines.backup.loading import feeding
from flowforge.engines.backup.loading.destination import Destination
from flowforge.engines.backup.loading.statements import Statement
from flowforge.engines.backup.steps import reached
from flowforge.errors import Unavailable
from flowforge.rules.backups import Member

_Job = tuple[float, int, list[int]]
"""Less than nothing for a large table, so that those come first; a number; the statements."""

_END = float("inf")


class Builders:
    """Sessions that build the indexes of tables, and what is to be built.

    A statement that fails beside others stays where it stood and is run again in its turn, so the
    order that `pg_dump` chose can never be what is wrong.

    Args:
        target: The database.
        found: All statements that come after the rows.
        members: The members of rows that are still to be loaded.
        places: How many sessions may work at once, those that load included.
        connections: How many sessions build.
    """

    def __init__(
        self,
        target: Destination,
        found: Sequence[Statement],
        members: Iterable[Member],
        places: threading.Semaphore,
        connections: int,
    ) -> None:
        self._target, self._found, self._places = target, found, places
        self._missing = Counter(member.table for member in members)
        self._left = {n for n, statement in enumerate(found) if statement.builds_on is None}
        self._guard, self._count = threading.Lock(), itertools.count()
        self._jobs: queue.PriorityQueue[_Job] = queue.PriorityQueue()
        self._sessions: list[psycopg.Connection[object]] = []
        self._error: BaseException | None = None
        self._stopped = False
        self._by_table: dict[str, list[int]] = defaultdict(list)
        for n, statement in enumerate(found):
            if statement.builds_on is not None:
                self._by_table[statement.builds_on].append(n)
        for table in [table for table in self._by_table if not self._missing[table]]:
            self._put(table)
        self._threads = [
            threading.Thread(target=self._run, daemon=True)
            for _ in range(min(connections, len(self._by_table) + self._jobs.qsize()))
        ]
        for thread in self._threads:
            thread.start()

    def loaded(self, member: Member) -> None:
        """Note that the rows of a member are there."""
        with self._guard:
            self._missing[member.table] -= 1
            if not self._missing[member.table] and member.table in self._by_table:
                self._put(member.table)

    def finish(self) -> None:
        """Build what is left, then run all else in its order.

        Raises:
            LoadFailed: The server refused one of the statements.
            Unavailable: The server went away.
        """
        self._end()
        if self._error is not None:
            raise self._error
        while not self._jobs.empty():  # every builder lost its session; the rest is done in order
            self._left.update(self._jobs.get()[2])
        self._target.run(s.text + b"\n" for n, s in enumerate(self._found) if n in self._left)
        reached("post")

    def stop(self) -> None:
        """End the sessions without caring for what is not built."""
        self._stopped = True
        for session in self._sessions:
            with contextlib.suppress(psycopg.Error):
                session.cancel_safe(timeout=5)
        self._end()

    def _end(self) -> None:
        for _ in self._threads:
            self._jobs.put((_END, next(self._count), []))
        for thread in self._threads:
            thread.join()

    def _put(self, table: str) -> None:
        size = self._target.raw_bytes(table)
        self._jobs.put((-float(size), next(self._count), self._by_table.pop(table)))

    def _run(self) -> None:
        numbers: list[int] = []
        try:
            first = self._jobs.get()
            if first[0] == _END:
                return
            with self._target.enter() as session:
                self._sessions.append(session)
                for rank, _, numbers in itertools.chain([first], iter(self._jobs.get, None)):
                    if rank == _END:
                        return
                    with self._places:
                        if self._stopped:
                            return
                        self._build(session, numbers)
        except (psycopg.OperationalError, Unavailable):
            self._left.update(numbers)  # the session is gone; `psql` says why, in its turn
        except BaseException as error:  # noqa: BLE001  raised again by `finish`
            self._error = self._error or error

    def _build(self, session: psycopg.Connection[object], numbers: list[int]) -> None:
        """Build the indexes of one table, taking each from the list when it is done."""
        workers = "2" if self._target.is_most(self._found[numbers[0]].builds_on) else "0"
        feeding.prepare(session, {"max_parallel_maintenance_workers": workers})
        while numbers:
            try:
                session.execute(self._found[numbers[0]].text)
            except psycopg.OperationalError:
                raise
            except psycopg.Error:
                self._left.add(numbers[0])
            numbers.pop(0)
