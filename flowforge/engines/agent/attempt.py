"""One try to bring a job to its end: one turn after the other, from where the last one stopped.

Everything is read from the journal first, so an attempt may begin at any line another one died at.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.engines.agent import conversation, finishing, stopping
from flowforge.engines.agent.calling import Caller, Ended, Parked
from flowforge.engines.agent.finishing import Outcome
from flowforge.engines.agent.hands import Hands, shown
from flowforge.engines.agent.happenings import Happenings
from flowforge.engines.agent.redaction import Redactor
from flowforge.engines.agent.sources_access import Access
from flowforge.engines.agent.station import Station, station
from flowforge.engines.agent.transport import Model
from flowforge.engines.agent.watching import Watch, watching
from flowforge.engines.sandboxes.sandbox import Provider
from flowforge.errors import Busy, FlowForgeError
from flowforge.ledger.journal import jobs, leases, turns
from flowforge.ledger.journal.leases import Lease
from flowforge.ledger.journal.news import News
from flowforge.ledger.journal.presence import Presence
from flowforge.rules.jobs import steps, stuck
from flowforge.rules.jobs.records import Job, Turn
from flowforge.rules.jobs.steps import Ending


@dataclass(frozen=True)
class Services:
    """What the attempts of one worker share."""

    engine: AsyncEngine
    presence: Presence
    news: News
    model: Model
    provider: Provider
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
        done: list[Turn],
        watch: Watch,
        happenings: Happenings,
    ) -> None:
        self.job = job
        self._services, self._lease, self._watch = services, lease, watch
        self._done, self._happenings = done, happenings
        self._caller = Caller(services.engine, lease, job.spec, services.model, happenings)
        self._place: Station | None = None
        self._hands: Hands | None = None
        self._circle: list[stuck.Done] = []
        self.parked: Parked | None = None
        self.ending: Ending | None = None

    async def begin(self, place: Station) -> None:
        """Start to work at a place that is ready."""
        self._place = place
        services = self._services
        self._hands = Hands(services.engine, self._lease, self.job.spec, place, self._happenings)
        self._hands.remarks.extend(place.remarks)
        self._watch.on_last_call = lambda left: self._remark(steps.LAST_CALL.format(seconds=left))
        await leases.advance(services.engine, self._lease, "running")
        await self._happenings.add("state", state="running", reason=None)

    async def step(self) -> Turned | None:
        """Do one turn; nothing when the job is over or has to wait.

        Raises:
            Fenced: Another attempt has the job.
        """
        if self.ending is not None or self.parked is not None:
            return None
        async with self.judged():
            turned: Turned = await self._watch.over(self._turn())
            return turned
        return None

    @contextlib.asynccontextmanager
    async def judged(self) -> AsyncIterator[None]:
        """Note what an error in the block means for the job."""
        try:
            try:
                yield
            except Busy:
                raise
            except FlowForgeError as error:
                raise stopping.meaning(error, self._lease.fence) from error
        except Ended as ended:
            self.ending = ended.ending
        except Parked as parked:
            self.parked = parked

    async def finish(self) -> Outcome:
        """Give the job back, with its patch and its story if it is over."""
        if self.parked is not None:
            return await finishing.park(self._services.engine, self._lease, self.job, self.parked)
        assert self.ending is not None
        return await finishing.finish(
            self._services.engine, self._lease, self.ending, self._place, self._happenings
        )

    async def _turn(self) -> Turned:
        if not self._done or self._is_complete(self._done[-1]):
            await self._ask()
        turn = self._done[-1]
        assert turn.reply is not None and self._hands is not None
        heard = conversation.hear(turn.reply)
        follow = self._follow(self._done)
        if follow.follow == "tools":
            await self._hands.run(turn.n, heard.calls, turn.tools, self._circle)
            self._done[-1] = (
                await turns.read(self._services.engine, self._lease.job, after=turn.n - 1)
            )[0]
        did = tuple(shown(call) for call in heard.calls) if follow.follow == "tools" else ()
        if follow.ending is not None:
            raise Ended(self._checked(follow.ending, heard.text))
        return Turned(turn.n, did, 0.0, heard.text)

    async def _ask(self) -> None:
        """Have the model's next reply, unless a limit forbids it."""
        output = sum(
            conversation.usage(turn.reply).output_tokens for turn in self._done if turn.reply
        )
        limit = steps.before_turn(self.job.spec.limits, turns=len(self._done), output_tokens=output)
        if limit is not None:
            raise Ended(limit)
        n = len(self._done) + 1
        found = await turns.read(self._services.engine, self._lease.job, after=n - 1)
        before = found[0].calls if found else 0
        paid = await self._caller.turn(n, self._done, before)
        self._done += await turns.read(self._services.engine, self._lease.job, after=n - 1)
        heard = conversation.hear(self._done[-1].reply)  # type: ignore[arg-type]
        await self._happenings.add(
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

    def _follow(self, done: list[Turn]) -> steps.Step:
        last = done[-1].reply
        assert last is not None
        heard = conversation.hear(last)
        return steps.after_reply(
            last.stop_reason,
            uses_tools=bool(heard.calls),
            earlier=[turn.reply.stop_reason for turn in done[:-1] if turn.reply],
            category=heard.category,
        )

    def _is_complete(self, turn: Turn) -> bool:
        """Whether nothing of a turn is left to do."""
        step = self._follow(self._done)
        if step.follow == "end":
            return False  # what it means is said by `_turn`
        assert turn.reply is not None
        called = len(conversation.hear(turn.reply).calls)
        return step.follow != "tools" or sum(call.done for call in turn.tools) == called

    def _checked(self, ending: Ending, text: str) -> Ending:
        """A success only if the last reply is of the form that was asked for."""
        if ending.state == "succeeded" and self.job.spec.output_schema is not None:
            try:
                json.loads(text)
            except ValueError:
                return Ending(state="failed", reason="the last reply is not the JSON asked for")
        return ending

    def _remark(self, remark: str) -> None:
        assert self._hands is not None
        self._hands.remarks.append(remark)


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
        if flow_run_id is not None:
            await leases.note(services.engine, lease, flow_run_id=flow_run_id)
        found = await jobs.get(services.engine, job)
        async with (
            stopping.given_back(services.engine, lease),
            watching(services.presence, services.news, lease, found) as watch,
            _told(services, lease) as happenings,
        ):
            done = await turns.read(services.engine, job)
            await happenings.add("state", state="starting", reason=services.worker)
            begun = [turn for turn in done if turn.reply is not None]
            work = Attempt(services, lease, found, begun, watch, happenings)
            async with _placed(work, services, lease, begun, watch):
                yield work
    finally:
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
    async with contextlib.AsyncExitStack() as stack:
        async with work.judged():
            await work.begin(await watch.over(stack.enter_async_context(place)))
        yield
