"""One try to bring a job to its end: one turn after the other, from where the last one stopped.

Everything is read from the journal first, so an attempt may begin at any line another one died at.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.engines.agent import conversation, finishing, stopping
from flowforge.engines.agent.batch import Batcher
from flowforge.engines.agent.batches import Batches
from flowforge.engines.agent.calling import Caller
from flowforge.engines.agent.endings import Ended, Parked
from flowforge.engines.agent.finishing import Outcome
from flowforge.engines.agent.hands import Hands
from flowforge.engines.agent.happenings import Happenings
from flowforge.engines.agent.patience import patiently
from flowforge.engines.agent.progress import Open, Progress
from flowforge.engines.agent.redaction import Redactor
from flowforge.engines.agent.sources_access import Access
from flowforge.engines.agent.station import Station, station
from flowforge.engines.agent.tools import NICKNAMES
from flowforge.engines.agent.transport import Model
from flowforge.engines.agent.watching import Watch, watching
from flowforge.engines.sandboxes.sandbox import Opener
from flowforge.errors import Busy, FlowForgeError, Unavailable
from flowforge.ledger.journal import jobs, leases, turns
from flowforge.ledger.journal.leases import Lease
from flowforge.ledger.journal.news import News
from flowforge.ledger.journal.presence import Presence
from flowforge.rules.jobs import batches
from flowforge.rules.jobs.records import Job, JobSummary, Turn
from flowforge.rules.jobs.steps import Ending

_BRING_SECONDS = 60.0


@dataclass(frozen=True)
class Services:
    """What the attempts of one worker share."""

    engine: AsyncEngine
    presence: Presence
    news: News
    model: Model
    provider: Opener
    worker: str
    """By which people know it."""

    access: Access | None = None
    """Opens a private repository."""

    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Masked wherever they appear."""


@dataclass(frozen=True)
class Turned:
    """A turn that is done."""

    n: int
    did: tuple[str, ...]
    """The tools it used."""

    usd: float
    text: str

    @property
    def title(self) -> str:
        """The turn in a line: `turn 7: bash, edit`."""
        return f"turn {self.n}: {', '.join(self.did) or 'answer'}"


class Attempt:
    """An attempt at work."""

    def __init__(
        self,
        services: Services,
        lease: Lease,
        job: Job,
        done: Sequence[Turn],
        watch: Watch,
        happenings: Happenings,
    ) -> None:
        self.job = job
        self._services, self._lease, self._watch = services, lease, watch
        self._happenings = happenings
        self._caller = Caller(services.engine, lease, job.spec, services.model, happenings)
        self._batcher: Batcher | None = None
        if batches.is_meant(job.spec, job.created_at):
            sent = Batches(services.model.client)
            self._batcher = Batcher(services.engine, lease, job, self._caller, sent)
        self._progress = Progress(job.spec, done)
        self._calls_before = {turn.n: turn.calls for turn in done if turn.reply is None}
        self._place: Station | None = None
        self._hands: Hands | None = None
        self.parked: Parked | None = None
        self.ending: Ending | None = None
        self.is_over = False
        """Whether the job was given back, at its end or to wait."""

    @property
    def next_turn(self) -> int:
        """The number of the turn that is taken next."""
        return self._progress.talk.turns + 1

    async def look(self) -> JobSummary:
        """The job as the journal has it now.

        Raises:
            Unavailable: The ledger does not answer.
        """
        return await jobs.look(self._services.engine, self.job.id)

    async def begin(self, place: Station) -> None:
        """Start to work at a place whose files are there."""
        self._place = place
        services = self._services
        self._hands = Hands(
            services.engine,
            self._lease,
            self.job.spec,
            place,
            self._happenings,
            self._watch.remarks,
        )
        self._watch.remarks.extend(place.remarks)
        if self.job.spec.tools:
            await self._watch.over(place.open())
        await patiently(lambda: leases.advance(services.engine, self._lease, "running"))
        self._happenings.tell("state", state="running", reason=None)

    async def step(self) -> Turned | None:
        """Do one turn; nothing when the job is over or has to wait.

        Raises:
            Fenced: Another attempt has the job.
        """
        if self.ending is not None or self.parked is not None:
            return None
        async with self.judged():
            return await self._watch.over(self._turn())
        return None

    @contextlib.asynccontextmanager
    async def judged(self) -> AsyncIterator[None]:
        """Note what an error in the block means for the job."""
        try:
            yield
        except Busy:
            raise
        except Ended as ended:
            self.ending = ended.ending
        except Parked as parked:
            self.parked = parked
        except FlowForgeError as error:
            meant = await stopping.meaning(self._services.engine, self._lease, error)
            self.ending = meant.ending if isinstance(meant, Ended) else None
            self.parked = meant if isinstance(meant, Parked) else None

    async def finish(self) -> Outcome:
        """Give the job back, with its patch and its story if it is over.

        Raises:
            Fenced: Another attempt has the job.
        """
        engine, lease = self._services.engine, self._lease
        if self.parked is not None:
            outcome = await finishing.park(engine, lease, self.parked, self._happenings)
        else:
            assert self.ending is not None
            if self._batcher is not None:
                await self._batcher.cancel(self.next_turn)
            outcome = await finishing.finish(
                engine, lease, self.ending, self._place, self._happenings
            )
        self.is_over = True
        return outcome

    async def _turn(self) -> Turned:
        progress, usd = self._progress, Decimal(0)
        if progress.open is None:
            progress.open, usd = await self._ask()
        turn, heard, tools = progress.open, progress.open.heard, progress.open.tools
        step = progress.follow(heard)
        if step.ending is not None:
            raise Ended(step.ending)
        if step.follow == "tools":
            assert self._hands is not None
            tools = await self._hands.run(turn.n, heard.calls, tools, progress.circle)
        progress.add(heard, tools)
        did = tuple(NICKNAMES.get(call.name, call.name) for call in heard.calls)
        return Turned(turn.n, did if step.follow == "tools" else (), float(usd), heard.text)

    async def _ask(self) -> tuple[Open, Decimal]:
        """Have the model's next reply, unless a limit forbids it; with what it cost."""
        limit = self._progress.limit()
        if limit is not None:
            raise Ended(limit)
        n = self.next_turn
        asks = self._batcher or self._caller
        paid = await asks.turn(n, self._progress.talk, self._calls_before.get(n, 0))
        heard = conversation.hear(paid.reply)
        self._happenings.tell(
            "turn",
            n=n,
            state="replied",
            stop_reason=paid.said.stop_reason,
            text=heard.text[:2_000],
            tools=[call.name for call in heard.calls],
            usd=float(paid.usd),
            usage=paid.said.usage.model_dump(),
            rehearsal=paid.said.rehearsal,
        )
        return Open(n, heard), paid.usd


@contextlib.asynccontextmanager
async def attempt(
    services: Services, job: str, *, flow_run_id: str | None = None
) -> AsyncIterator[Attempt]:
    """Claim a job and work on it while the block lasts.

    A block left without `finish` gives the job back to the queue: the next attempt goes on.

    Raises:
        Busy: A living attempt has it.
        Refused: It has ended, or there is none.
    """
    lease = await services.presence.claim(job, services.worker)
    try:
        async with stopping.given_back(services.engine, lease) as gone:
            if flow_run_id is not None:
                await leases.note(services.engine, lease, flow_run_id=flow_run_id)
            found = await jobs.get(services.engine, job)
            async with (
                watching(services.presence, services.news, lease, found) as watch,
                _told(services, lease) as happenings,
            ):
                done = await turns.read(services.engine, job)
                await happenings.add("state", state="starting", reason=services.worker)
                work = Attempt(services, lease, found, done, watch, happenings)
                try:
                    async with _placed(work, services, lease, done, watch):
                        yield work
                finally:
                    gone.is_over = work.is_over
    finally:
        with contextlib.suppress(Unavailable):  # the lock goes with the connection
            await asyncio.shield(services.presence.let_go(lease))


@contextlib.asynccontextmanager
async def _told(services: Services, lease: Lease) -> AsyncIterator[Happenings]:
    happenings = Happenings(services.engine, lease, Redactor(services.secrets))
    try:
        yield happenings
    finally:
        await happenings.close()


@contextlib.asynccontextmanager
async def _placed(
    work: Attempt, services: Services, lease: Lease, done: list[Turn], watch: Watch
) -> AsyncIterator[None]:
    """A place to work at; where there is none the attempt knows why and what that means."""
    redactor = Redactor(services.secrets)
    place = station(
        services.engine, lease, work.job.spec, done, services.provider, redactor, services.access
    )
    # Files that an earlier attempt left are brought also for a job that is over: for its patch.
    grace = _BRING_SECONDS if done else 0.0
    async with contextlib.AsyncExitStack() as stack:
        async with work.judged():
            await work.begin(await watch.over(stack.enter_async_context(place), grace=grace))
        yield
