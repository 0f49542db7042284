"""The tour: every operation once, through the API alone, each ending in its line of evidence."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from flowforge.client import RESTORE, FlowForge
from flowforge.errors import FlowForgeError, Unavailable
from flowforge.local.layout import Layout
from flowforge.local.part import write_whole
from flowforge.local.state import StateFolder
from flowforge.local.steps import Progress
from flowforge.rules.backups import Operation
from flowforge.twin import repository

BACKUP = "backup-postgres/database-backup"
JOB = "run-agent-job/on-demand"
RESTORED = "shop_restored"
COLUMNS = ("operation", "run", "evidence", "seconds")
_RUN_SECONDS = 300.0


@dataclass(frozen=True)
class Row:
    """One operation of the tour."""

    operation: str
    run: str
    evidence: str
    seconds: float
    url: str
    failed: bool = False

    def cells(self) -> tuple[str, str, str, str]:
        """The row as it is shown."""
        return self.operation, self.run, self.evidence, f"{self.seconds:.1f}"


@dataclass(frozen=True)
class Tour:
    """The table of one tour."""

    rows: tuple[Row, ...]
    ended_at: str

    @property
    def failed(self) -> bool:
        """Whether anything in it failed."""
        return any(row.failed for row in self.rows)


def take(layout: Layout, progress: Progress) -> Tour:
    """Run every operation once and keep the table.

    A failed operation is a row that says why; the others still run.

    Raises:
        Unavailable: The server did not answer at all.
    """
    # The shop first: its restore needs the copy. Prefect's own database is copied meanwhile, so
    # it is written to by the very runs that copy it.
    api_url, folder = layout.api_url, layout.folder
    with ThreadPoolExecutor(max_workers=3) as pool:
        shop = _back_up(api_url, progress, "shop", None)
        own = pool.submit(_back_up, api_url, progress, "platform", "prefect")
        job = pool.submit(_run_job, layout, progress)
        layout.postgres.drop_rehearsals(RESTORED)
        restored = _restore(api_url, progress) if not shop.failed else None
        rows = (shop, own.result(), *([restored] if restored else []), job.result())
    tour = Tour(rows, datetime.now(UTC).isoformat(timespec="seconds"))
    document = {"ended_at": tour.ended_at, "rows": [asdict(row) for row in tour.rows]}
    write_whole(folder.tour, json.dumps(document, indent=1, ensure_ascii=False))
    return tour


def read_last(folder: StateFolder) -> Tour | None:
    """The table of the last tour, if there was one."""
    try:
        document = json.loads(folder.tour.read_bytes())
        rows = tuple(Row(**fields) for fields in document["rows"])
        return Tour(rows, document["ended_at"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _back_up(api_url: str, progress: Progress, server: str, database: str | None) -> Row:
    def act(flowforge: FlowForge, seen: _Seen) -> Operation:
        return seen.run(flowforge, BACKUP, server=server, database=database)

    return _row(api_url, progress, "backup", f"backup of {database or server}", act)


def _restore(api_url: str, progress: Progress) -> Row:
    def act(flowforge: FlowForge, seen: _Seen) -> Operation:
        what = {"server": "shop", "target_database": RESTORED}
        planned = seen.run(flowforge, RESTORE, action="plan", **what)
        return seen.run(
            flowforge, RESTORE, action="apply", plan_hash=planned.facts["plan_hash"], **what
        )

    return _row(api_url, progress, "restore", f"restore into {RESTORED}", act)


def _run_job(layout: Layout, progress: Progress) -> Row:
    def act(flowforge: FlowForge, seen: _Seen) -> Operation:
        sample = repository.make(layout.folder.path / "sample-repository")
        spec = {"prompt": repository.PROMPT, "workspace": {"kind": "git", "url": str(sample)}}
        return seen.run(flowforge, JOB, spec=spec)

    return _row(layout.api_url, progress, "job", "agent job on a small repository", act)


class _Seen:
    """The last run an operation came to, for its row."""

    def __init__(self) -> None:
        self.name = "-"
        self.url = ""

    def run(self, flowforge: FlowForge, deployment: str, **parameters: object) -> Operation:
        run = flowforge.run(deployment, idempotency_key=str(uuid.uuid4()), **parameters)
        self.name, self.url = run.name, run.url
        return run.result(timeout=_RUN_SECONDS)


def _row(
    api_url: str,
    progress: Progress,
    operation: str,
    title: str,
    act: Callable[[FlowForge, _Seen], Operation],
) -> Row:
    seen = _Seen()
    progress.begin(title)
    began = time.monotonic()
    failed = False
    try:
        with FlowForge(api_url) as flowforge:
            evidence = act(flowforge, seen).evidence
    except FlowForgeError as error:
        if isinstance(error, Unavailable) and not seen.url:
            raise
        failed, evidence = True, f"FAILED: {error}"
    seconds = time.monotonic() - began
    progress.done(title, seconds, evidence if failed else "")
    return Row(operation, seen.name, evidence, round(seconds, 1), seen.url, failed)
