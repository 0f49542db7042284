"""Load a copy of several members: definitions, rows side by side, then what needs the rows.

One reader goes through the object from its beginning to its end, so a sealed copy or a slow store
is read once; the members it meets are dealt to sessions that load side by side. What comes after
the rows is fetched before them where that can be, so that indexes are built beside the loading.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

import psycopg

from flowforge.engines.backup.loading import feeding, psql, reading, statements
from flowforge.engines.backup.loading.building import Builders
from flowforge.engines.backup.loading.destination import Destination
from flowforge.engines.backup.loading.feeding import Lane
from flowforge.engines.backup.loading.statements import Statement
from flowforge.engines.backup.steps import reached
from flowforge.engines.backup.stores.store import Store
from flowforge.rules.backups import Manifest, Member

_READ_BYTES = 1024 * 1024

Wanted = Callable[[Member], bool]
Choose = Callable[[list[Statement]], list[Statement]]
OnProgress = Callable[[int, int, str | None], None]
"""Told the stored bytes done, those in all, and the table just loaded."""


def load(
    store: Store,
    target: Destination,
    *,
    connections: int,
    on_progress: OnProgress = lambda *_: None,
    wanted: Wanted = lambda _: True,
    choose: Choose = list,
) -> None:
    """Load a copy of several members.

    Args:
        store: Where the copy is.
        target: Where it goes.
        connections: How many sessions load rows or build indexes.
        on_progress: Told after every member.
        wanted: Which of its members are loaded; asked as they come.
        choose: Which of the statements that come after the rows are run; asked when the definitions
            are there.

    Raises:
        LoadFailed: The server refused something in it.
        Damaged: The copy is not the one the manifest was written for.
        Unavailable: The server or the store went away.
    """
    manifest = target.manifest
    work = _Work(store, target, connections, on_progress, wanted, choose)
    try:
        for member, packed in reading.packed_members(store, manifest):
            if member.kind == "rows" and wanted(member):
                work.load_rows(member, packed)
            elif member.kind == "after-data" and not work.is_building:
                work.begin_to_build(_text(manifest, member, packed))
            elif member.kind == "after-data" or not wanted(member):
                _skip(packed)  # it runs already, or is not wanted
            else:
                work.run(member, packed)
        work.finish()
    except BaseException as error:
        work.stop()
        raise _explained(error, manifest) from error


class _Work:
    """The sessions at work on a copy."""

    def __init__(
        self,
        store: Store,
        target: Destination,
        connections: int,
        on_progress: OnProgress,
        wanted: Wanted,
        choose: Choose,
    ) -> None:
        self._store, self._target, self._connections = store, target, connections
        self._on_progress, self._wanted, self._choose = on_progress, wanted, choose
        self._codec = target.codec()
        self._places = threading.BoundedSemaphore(connections)
        self._guard, self._done = threading.Lock(), 0
        self._lanes: list[Lane] = []
        self._dealer: feeding.Dealer | None = None
        self._builders: Builders | None = None

    @property
    def is_building(self) -> bool:
        """Whether the statements that come after the rows are known."""
        return self._builders is not None

    def load_rows(self, member: Member, packed: Iterator[bytes]) -> None:
        """Give rows to a session; returns when their bytes were taken."""
        if self._dealer is None:
            self._begin_to_load()
        assert self._dealer is not None
        self._dealer.deal(member, packed)

    def run(self, member: Member, packed: Iterator[bytes]) -> None:
        """Run a part that is SQL, when the rows before it are there."""
        self._finish_lanes()
        self._target.run(_text(self._target.manifest, member, packed))
        reached("pre" if member.kind == "before-data" else "members")
        self._note(member)

    def begin_to_build(self, text: Iterable[bytes]) -> None:
        """Take the statements that come after the rows, and begin with those that may run now."""
        found = self._choose(statements.split(b"".join(text), self._codec))
        missing = [] if self._dealer and not self._lanes else self._row_members()
        self._builders = Builders(self._target, found, missing, self._places, self._connections)

    def finish(self) -> None:
        """Wait for everything; raises what went wrong."""
        self._finish_lanes()
        if self._builders is not None:
            self._builders.finish()

    def stop(self) -> None:
        """End every session."""
        for lane in self._lanes:
            lane.stop()
        if self._builders is not None:
            self._builders.stop()

    def _begin_to_load(self) -> None:
        manifest = self._target.manifest
        after = next((part for part in manifest.parts if part.kind == "after-data"), None)
        if after is not None and manifest.seal is None:  # a sealed one can only be read in order
            with self._store.read(manifest.data.key, after.offset, after.size_bytes) as stored:
                packed = iter(lambda: stored.read(_READ_BYTES) or b"", b"")
                self.begin_to_build(_text(manifest, after, packed))
        self._lanes = [
            Lane(f"load-{n}", self._target.enter, self._codec, self._places, self._note)
            for n in range(self._connections)
        ]
        self._dealer = feeding.Dealer(self._lanes, manifest.parts)

    def _row_members(self) -> list[Member]:
        parts = self._target.manifest.parts
        return [part for part in parts if part.kind == "rows" and self._wanted(part)]

    def _note(self, member: Member) -> None:
        """Tell how far it is, and that the rows of a member are there."""
        with self._guard:
            self._done += member.size_bytes
            self._on_progress(self._done, self._target.manifest.data.size_bytes, member.table)
        if self._builders is not None and member.kind == "rows":
            self._builders.loaded(member)

    def _finish_lanes(self) -> None:
        while self._lanes:
            self._lanes[0].finish()
            self._lanes.pop(0)


def build(target: Destination, found: list[Statement], connections: int) -> None:
    """Run the statements that come after the rows when all rows are there.

    Raises:
        LoadFailed: The server refused one of them.
        Unavailable: The server went away.
    """
    Builders(target, found, (), threading.BoundedSemaphore(connections), connections).finish()


def _text(manifest: Manifest, member: Member, packed: Iterator[bytes]) -> Iterator[bytes]:
    """The text of a part that is SQL."""
    return reading.member_text(manifest, member, reading.checked(manifest, member, packed))


def _skip(packed: Iterator[bytes]) -> None:
    for _ in packed:
        pass


def _explained(error: BaseException, manifest: Manifest) -> BaseException:
    """What a lane met, as one of the three kinds."""
    if not isinstance(error, psycopg.Error):
        return error
    first = str(error).splitlines()[0]
    if isinstance(error, psycopg.OperationalError):
        return psql.unavailable(first, manifest)
    return psql.failed(first, manifest)
