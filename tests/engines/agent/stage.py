"""What the tests of the brain need: a real journal, the rehearsal model, and a place to work."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.engines.agent.attempt import Attempt, Services, attempt
from flowforge.engines.agent.finishing import Outcome
from flowforge.engines.agent.transport import Model
from flowforge.engines.sandboxes.sandbox import Provider, Sandbox
from flowforge.errors import FlowForgeError
from flowforge.ledger.journal import events, jobs, money, turns
from flowforge.ledger.journal.connection import open_engine
from flowforge.ledger.journal.news import listen
from flowforge.ledger.journal.presence import presence
from flowforge.rules.jobs.accounts import Account
from flowforge.rules.jobs.records import Call, Event, Job, Turn
from flowforge.rules.jobs.spec import JobSpec, SandboxChoice
from flowforge.twin.model.server import Server, serve
from flowforge.twin.model.state import State
from tests.engines.agent.folder_sandbox import FolderSandbox
from tests.rehearsal import scripted

T = TypeVar("T")


class FolderProvider:
    """Gives sandboxes that are folders."""

    kind = "folder"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.opened: list[FolderSandbox] = []

    def why_not(self) -> FlowForgeError | None:
        return None

    async def open(self, job: str, fence: int, choice: SandboxChoice) -> Sandbox:
        self.opened.append(FolderSandbox(self._folder / f"{job}-{fence}-{len(self.opened)}"))
        return self.opened[-1]

    async def list_open(self) -> list[tuple[str, int, str]]:
        return []

    async def remove(self, sandbox_id: str) -> None:
        raise AssertionError("a folder is removed by its own sandbox")


@dataclass
class Stage:
    """Everything an attempt needs."""

    services: Services
    server: Server
    provider: FolderProvider
    tenant: str = field(default_factory=lambda: f"t-{uuid.uuid4().hex[:12]}")

    @property
    def engine(self) -> AsyncEngine:
        return self.services.engine

    async def submit(self, *script: object, **changes: Any) -> str:
        """A job that plays a script; what it is about may be changed."""
        body = {"prompt": scripted(*script), "tenant": self.tenant} | changes
        job, _ = await jobs.submit(self.engine, JobSpec.model_validate(body))
        return job

    @asynccontextmanager
    async def attempt(self, job: str, **changes: Any) -> AsyncIterator[Attempt]:
        async with attempt(replace(self.services, **changes), job) as work:
            yield work

    async def work(self, job: str, **changes: Any) -> Outcome:
        """One attempt, from where the last one stopped."""
        async with self.attempt(job, **changes) as work:
            while await work.step() is not None:
                pass
            return await work.finish()

    async def play(self, *script: object, **changes: Any) -> Outcome:
        """A new job, in one attempt."""
        return await self.work(await self.submit(*script, **changes))

    async def turns(self, job: str) -> list[Turn]:
        return await turns.read(self.engine, job)

    async def job(self, job: str) -> Job:
        return await jobs.get(self.engine, job)

    async def calls(self, job: str) -> list[Call]:
        return await money.list_calls(self.engine, job)

    async def events(self, job: str, kind: str | None = None) -> list[Event]:
        found = await events.read(self.engine, job, limit=10_000)
        return [event for event in found if kind in (None, event.kind)]

    async def results(self, job: str) -> list[str]:
        """What the model was told of each tool call, in order."""
        return [call.result or "" for turn in await self.turns(job) for call in turn.tools]

    @property
    def asked(self) -> int:
        """How many messages the model was asked for."""
        return self.server.state.counters.requests["messages"]


@asynccontextmanager
async def staged(
    url: str,
    *,
    provider: Provider | None = None,
    secrets: Mapping[str, str] | None = None,
    state: State | None = None,
    model_url: str | None = None,
    batch_seconds: float = 0.0,
    grace: float = 0.0,
    connections: int = 5,
) -> AsyncIterator[Stage]:
    """A stage whose account and tenant nobody else uses."""
    async with (
        _engine(url, connections) as engine,
        serve(state=state, batch_seconds=batch_seconds) as server,
        listen(engine) as heard,
        presence(engine, grace=grace) as here,
    ):
        account = Account(
            name=f"a-{uuid.uuid4().hex[:12]}",
            api_key=SecretStr("sk-of-the-stage"),
            base_url=model_url or server.url,
        )
        model = Model(account)
        with tempfile.TemporaryDirectory() as folder:
            folders = FolderProvider(Path(folder))
            services = Services(
                engine, here, heard, model, provider or folders, "stage", secrets=secrets or {}
            )
            try:
                yield Stage(services, server, folders)
            finally:
                await model.close()


@asynccontextmanager
async def _engine(url: str, connections: int) -> AsyncIterator[AsyncEngine]:
    engine = open_engine(url, connections=connections)
    try:
        yield engine
    finally:
        await engine.dispose()


def on_stage(url: str, story: Callable[[Stage], Awaitable[T]], **setting: Any) -> T:
    """Tell a story on a stage of its own."""

    async def tell() -> T:
        async with staged(url, **setting) as stage:
            return await story(stage)

    return asyncio.run(tell())
