"""Run the tools a reply names: each intent is written before it runs, each result before the next.

A call that was begun and has no result belonged to a worker that died. It is not run again, unless
it only read: the model is told that it may have taken effect.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from flowforge.engines.agent.conversation import with_remarks, without_remarks
from flowforge.engines.agent.endings import Ended, Parked
from flowforge.engines.agent.happenings import Happenings
from flowforge.engines.agent.patience import patiently
from flowforge.engines.agent.steps import reached
from flowforge.engines.agent.tools import BASH, EDIT, Call, Tools
from flowforge.engines.agent.tools_result import ToolResult
from flowforge.engines.agent.workspace import Step
from flowforge.engines.sandboxes.contacts import Contact
from flowforge.engines.sandboxes.sandbox import SandboxLost
from flowforge.ledger.journal import approvals, artifacts, turns
from flowforge.ledger.journal.leases import Lease
from flowforge.ledger.journal.text import storable
from flowforge.rules.jobs import patterns, stuck
from flowforge.rules.jobs.records import ToolCall
from flowforge.rules.jobs.spec import JobSpec
from flowforge.rules.jobs.steps import Ending

DIED = (
    "The worker that ran this died before it knew the result. It may have taken effect, or a part "
    "of it. Look before you do it again."
)
LOST = (
    "The sandbox was lost while this ran, and a new one was made. Files are as they were before it."
)
DENIED = "A person was asked whether this may run and said no. Do not try it in another way."
UNANSWERED = "A person was asked whether this may run; nobody answered in time. It was not run."
_SHOWN = 400


class Bench(Protocol):
    """Where the tools do their work; it is made anew when the sandbox is lost."""

    tools: Tools

    async def keep(self) -> Step:
        """Keep the files as they are now."""

    def contacts(self) -> list[Contact]:
        """Which hosts commands asked for since this was asked last."""

    async def renew(self, why: SandboxLost) -> None:
        """Make another sandbox, with the files as they were kept last."""


class Hands:
    """Runs the tools of one attempt.

    Args:
        engine: The ledger.
        lease: The attempt's.
        spec: The job.
        bench: Where the tools are.
        happenings: Told what happens.
        remarks: What the model is told with the next result, besides it; then they are gone.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        lease: Lease,
        spec: JobSpec,
        bench: Bench,
        happenings: Happenings,
        remarks: list[str],
    ) -> None:
        self._engine, self._lease, self._spec = engine, lease, spec
        self._bench, self._happenings = bench, happenings
        self._remarks = remarks

    async def run(
        self, turn: int, calls: Sequence[Call], known: Sequence[ToolCall], done: list[stuck.Done]
    ) -> tuple[ToolCall, ...]:
        """Run the calls of a reply, in their order, and return them as the journal has them.

        Args:
            turn: The turn of the reply.
            calls: What it names.
            known: What the journal has of them already.
            done: All calls of the turns before; those that end here are added.

        Raises:
            Ended: The job goes round in circles.
            Parked: A person is asked first.
        """
        before = {call.tool_use_id: call for call in known}
        all_of_them = []
        for position, call in enumerate(calls):
            recorded = before.get(call.id)
            if recorded is None or not recorded.done:
                recorded = await self._run(turn, position, call, recorded, done)
            else:
                assert recorded.result is not None
                done.append(done_before(call, recorded.result))
            all_of_them.append(recorded)
        return tuple(all_of_them)

    async def _run(
        self,
        turn: int,
        position: int,
        call: Call,
        recorded: ToolCall | None,
        done: list[stuck.Done],
    ) -> ToolCall:
        began = time.monotonic()
        refusal = await self._ask_first(turn, call)
        may_have_run = recorded is not None and not _only_reads(call)
        if not may_have_run:
            await self._begin(turn, position, call)
        if refusal is not None or may_have_run:
            result, step = ToolResult(refusal or DIED, is_error=True), None
        else:
            result, step = await self._do(turn, call)
        done.append(_done(call, result.content))
        del done[: -stuck.MOST_LOOKED_AT]
        verdict = stuck.judge(done)
        if verdict == "nudge":
            self._remarks.append(stuck.NUDGE.format(times=stuck.NUDGE_AT))
        seconds = time.monotonic() - began
        told = await self._finish(turn, position, call, result, step, seconds)
        if verdict == "stuck":
            raise Ended(Ending(state="stuck", reason=stuck.REASON))
        return told

    async def _begin(self, turn: int, position: int, call: Call) -> None:
        written = json.dumps(call.input)
        await patiently(
            lambda: turns.begin_tool(
                self._engine,
                self._lease,
                turn,
                position,
                call.id,
                name=call.name,
                input=written,
            )
        )

    async def _do(self, turn: int, call: Call) -> tuple[ToolResult, Step | None]:
        self._tell(turn, call, "started", input=shown(call))
        reached(f"intent-{turn}")
        try:
            result = await self._bench.tools.run(call)
            reached(f"ran-{turn}")
            self._happenings.tell_contacts(self._bench.contacts())
            return result, await self._bench.keep() if result.changed else None
        except SandboxLost as why:
            await self._bench.renew(why)
            return ToolResult(LOST, is_error=True), None

    async def _finish(
        self,
        turn: int,
        position: int,
        call: Call,
        result: ToolResult,
        step: Step | None,
        seconds: float,
    ) -> ToolCall:
        told = ToolCall(
            turn=turn,
            position=position,
            tool_use_id=call.id,
            name=call.name,
            input=json.dumps(call.input),
            fence=self._lease.fence,
            done=True,
            result=storable(with_remarks(result.content, self._remarks)),
            is_error=result.is_error,
            tree=step.kept.tree if step is not None else None,
            milliseconds=int(seconds * 1000),
        )
        self._remarks.clear()
        artifact = await self._keep_output(result.artifact)
        if step is not None:
            await self._keep_pack(turn, position, step.pack)
        ended = told.model_dump(include={"result", "is_error", "tree", "milliseconds"})
        await patiently(
            lambda: turns.finish_tool(self._engine, self._lease, turn, call.id, **ended)
        )
        self._tell(
            turn,
            call,
            "done",
            is_error=told.is_error,
            ms=told.milliseconds,
            output=(told.result or "")[-_SHOWN:],
            artifact=artifact,
        )
        return told

    async def _keep_output(self, path: Path | None) -> str | None:
        if path is None:
            return None
        if path.stat().st_size > artifacts.MAX_BYTES:  # what masks a secret may be longer than it
            os.truncate(path, artifacts.MAX_BYTES)
        await self._put(path.name, "text/plain", path)
        path.unlink()
        return path.name

    async def _keep_pack(self, turn: int, position: int, pack: bytes) -> None:
        if pack:
            name = f"pack-{turn:06}-{position:03}"
            await self._put(name, "application/x-git-pack", pack)

    async def _put(self, name: str, kind: str, content: bytes | Path) -> None:
        await patiently(lambda: artifacts.put(self._engine, self._lease, name, kind, content))

    async def _ask_first(self, turn: int, call: Call) -> str | None:
        """Whether a person let it run; what the model is told when not."""
        command = _command(call)
        if command is None or not patterns.matches(command, self._spec.approval.commands):
            return None
        asked = await patiently(
            lambda: approvals.ask(
                self._engine,
                self._lease,
                turn,
                call.id,
                command=command,
                seconds=self._spec.approval.wait_seconds,
            )
        )
        await self._happenings.add(
            "approval", turn=turn, tool_use_id=call.id, command=command, state=asked.state
        )
        if asked.state == "granted":
            return None
        if asked.state == "denied":
            return DENIED if asked.answered_by else UNANSWERED
        left = (asked.until - datetime.now(UTC)).total_seconds()
        raise Parked(f"approval: {command[:200]}", max(0.0, left))

    def _tell(self, turn: int, call: Call, state: str, **more: object) -> None:
        self._happenings.tell(
            "tool", n=turn, tool_use_id=call.id, name=call.name, state=state, **more
        )


def shown(call: Call) -> str:
    """A call in a line, for people."""
    if isinstance(call.input, dict):
        if command := _command(call):
            return command[:_SHOWN]
        if call.name == EDIT:
            return f"{call.input.get('command')} {call.input.get('path')}"[:_SHOWN]
    return json.dumps(call.input)[:_SHOWN]


def done_before(call: Call, told: str) -> stuck.Done:
    """A call of an earlier attempt, by what the model was told of it."""
    return _done(call, without_remarks(told))


def _command(call: Call) -> str | None:
    command = call.input.get("command") if isinstance(call.input, dict) else None
    return command if call.name == BASH and isinstance(command, str) else None


def _only_reads(call: Call) -> bool:
    looks = isinstance(call.input, dict) and call.input.get("command") == "view"
    return call.name == EDIT and looks


def _done(call: Call, result: str) -> stuck.Done:
    given = _command(call) or json.dumps(call.input)
    return stuck.Done(name=call.name, input=given, result=result)
