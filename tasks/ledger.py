"""Steps on the ledger: remember copies and proofs, record how an operation ended.

The store decides which copies exist. When the ledger does not answer, the copy is no less real, so
these steps say so and go on; the next run heals what was missed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from prefect import get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import Pause
from pydantic import JsonValue, TypeAdapter
from pydantic_core import to_jsonable_python
from sqlalchemy import Engine

from flowforge import ledger
from flowforge.errors import Busy, Damaged, FlowForgeError, Refused, Unavailable
from flowforge.ledger import protection, queries
from flowforge.rules import standing
from flowforge.rules.backups import Copy, Operation, Proof
from flowforge.rules.drills import Drill
from flowforge.settings import read_settings


@dataclass
class Recorder:
    """What an operation has to show for itself when it ends."""

    operation: str
    evidence: str = ""
    facts: dict[str, JsonValue] = field(default_factory=dict)
    outcome: str = "done"
    server: str | None = None
    database: str | None = None

    def about(self, server: str, database: str) -> None:
        """Say which database this is about, as soon as that is known."""
        self.server, self.database = server, database

    def skipped(self, evidence: str) -> None:
        """Say in one line why there was nothing to do."""
        self.outcome, self.evidence = "skipped", evidence

    def ended(self, outcome: str, evidence: str, **facts: object) -> None:
        """Say in one line how something ended that may end in more ways than well."""
        self.done(evidence, **facts)
        self.outcome = outcome

    def done(self, evidence: str, **facts: object) -> None:
        """Say in one line what was achieved, and keep the values behind it."""
        self.evidence = evidence
        self.facts |= TypeAdapter(dict[str, JsonValue]).validate_python(
            to_jsonable_python(facts, by_alias=True)
        )


@contextmanager
def recording(operation: str) -> Iterator[Recorder]:
    """Record how the operation inside the block ended, whichever way it did.

    Another run that does the same already is no failure: the block ends as `skipped`.
    """
    recorder, clock = Recorder(operation), time.monotonic()
    try:
        yield recorder
    except Busy as busy:
        recorder.outcome, recorder.evidence = "skipped", busy.message
    except Pause:
        recorder.outcome = "waiting"
        recorder.evidence += "; waits for a person to agree"
        raise
    except FlowForgeError as error:
        recorder.outcome = _outcome(error)
        recorder.evidence = f"{error.message} Hint: {error.hint}"
        raise
    except BaseException as error:
        recorder.outcome, recorder.evidence = "failed", f"stopped by {type(error).__name__}"
        raise
    finally:
        _record(recorder, time.monotonic() - clock)


@task(task_run_name="note copies of {server}/{database}", cache_policy=NO_CACHE)
def note_copies(
    server: str, database: str, copies: Sequence[Copy], proofs: dict[str, list[Proof]]
) -> None:
    """Make the ledger's catalogue of one database equal to what its store lists."""
    engine = _engine()
    if engine is None:
        return
    try:
        present = {(c.name, c.store) for c in copies}
        stores = {c.store for c in copies}
        known = {(c.name, c.store): c for c in queries.list_copies(engine, server, database)}
        for name, store in known.keys() - present:
            if store in stores:
                queries.forget_copy(engine, server, database, name, store)
        for copy in copies:
            if known.get((copy.name, copy.store)) != copy:
                queries.record_copy(engine, copy)
            for proof in proofs.get(copy.name, []):
                queries.record_proof(engine, server, database, copy.store, proof)
    except Unavailable as error:
        get_run_logger().warning("the ledger was not told: %s", error)


@task(task_run_name="note drills", cache_policy=NO_CACHE)
def note_drills(found: Sequence[Drill]) -> None:
    """Make the ledger know drills that the store keeps."""
    engine = _engine()
    if engine is None:
        return
    try:
        protection.record_drills(engine, found)
    except Unavailable as error:
        get_run_logger().warning("the ledger was not told: %s", error)


def read_standings(targets: standing.Targets) -> list[standing.DatabaseStanding]:
    """How well each database is protected, as the ledger knows it.

    Raises:
        Refused: There is no ledger.
        Unavailable: It does not answer.
    """
    engine = _engine()
    if engine is None:
        raise Refused("No ledger is configured.", hint="Set FLOWFORGE_LEDGER_URL.")
    return standing.stand(protection.read_known(engine), datetime.now(UTC), targets)


def _record(recorder: Recorder, seconds: float) -> None:
    engine = _engine()
    run = runtime.flow_run
    if engine is None or run.id is None:
        return
    try:
        queries.record_operation(
            engine,
            Operation(
                operation=recorder.operation,
                flow_run_id=run.id,
                flow_run_name=run.name or "",
                outcome=recorder.outcome,
                evidence=recorder.evidence,
                seconds=round(seconds, 3),
                finished_at=datetime.now(UTC),
                server=recorder.server,
                database=recorder.database,
                facts=recorder.facts,
            ),
        )
    except Unavailable as error:
        get_run_logger().warning("the ledger was not told: %s", error)


def _engine() -> Engine | None:
    url = read_settings().ledger_url
    if url is None:
        get_run_logger().info("no ledger is configured (FLOWFORGE_LEDGER_URL): nothing is recorded")
        return None
    return ledger.connect(url.get_secret_value(), pooled=False)


def _outcome(error: FlowForgeError) -> str:
    kinds = {Refused: "refused", Damaged: "damaged", Unavailable: "failed"}
    return next((word for kind, word in kinds.items() if isinstance(error, kind)), "failed")
