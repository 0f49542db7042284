"""How far a job is: what was said, the turn that is not done, and whether it goes in circles.

It is made from the journal alone, so another attempt comes to the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flowforge.engines.agent import conversation
from flowforge.engines.agent.conversation import Conversation, Heard
from flowforge.engines.agent.hands import done_before
from flowforge.rules.jobs import forms, steps, stuck
from flowforge.rules.jobs.records import Reply, ToolCall, Turn
from flowforge.rules.jobs.spec import JobSpec
from flowforge.rules.jobs.steps import Ending


@dataclass(frozen=True)
class Open:
    """A turn whose reply is there and has something left to do."""

    n: int
    heard: Heard
    tools: tuple[ToolCall, ...] = ()
    """The calls of it that were begun."""


class Progress:
    """A job on its way.

    Args:
        spec: The job.
        done: Its turns so far; one without a reply is left out.
    """

    def __init__(self, spec: JobSpec, done: Iterable[Turn]) -> None:
        self._spec = spec
        self.talk = Conversation(spec)
        self.open: Open | None = None
        self.circle: list[stuck.Done] = []
        """The calls of tools that were done last."""

        for turn in done:
            if turn.reply is not None:
                self._take_up(turn, turn.reply)

    def limit(self) -> Ending | None:
        """What forbids to ask the model again."""
        if stuck.judge(self.circle) == "stuck":
            return Ending(state="stuck", reason=stuck.REASON)
        talk = self.talk
        return steps.before_turn(
            self._spec.limits, turns=talk.turns, output_tokens=talk.output_tokens
        )

    def follow(self, heard: Heard) -> steps.Step:
        """What is to be done after a reply."""
        step = steps.after_reply(
            heard.stop_reason,
            uses_tools=bool(heard.calls),
            earlier=self.talk.stop_reasons,
            category=heard.category,
        )
        if step.ending is None:
            return step
        return step.model_copy(update={"ending": self._checked(step.ending, heard)})

    def add(self, heard: Heard, tools: Iterable[ToolCall]) -> None:
        """A turn is done."""
        self.talk.add(heard, tools)
        self.open = None

    def _take_up(self, turn: Turn, reply: Reply) -> None:
        heard = conversation.hear(reply)
        step = self.follow(heard)
        is_done = sum(call.done for call in turn.tools) == len(heard.calls)
        if step.follow == "end" or (step.follow == "tools" and not is_done):
            self.open = Open(turn.n, heard, turn.tools)
            return
        if step.follow == "tools":
            told = {call.tool_use_id: call.result or "" for call in turn.tools}
            self.circle += [done_before(call, told[call.id]) for call in heard.calls]
            del self.circle[: -stuck.MOST_LOOKED_AT]
        self.add(heard, turn.tools)

    def _checked(self, ending: Ending, heard: Heard) -> Ending:
        """An end, or another one that says better what it is."""
        if ending.state == "max_tokens":
            held = heard.usage.output_tokens
            if held < self._spec.max_tokens:  # money was left for no longer one
                reason = f"what was left pays for a reply of {held:,} tokens only"
                return Ending(state="budget_exceeded", reason=reason)
        if ending.state == "succeeded" and self._spec.output_schema is not None:
            problem = forms.find_problem(heard.text, self._spec.output_schema)
            if problem is not None:
                return Ending(state="failed", reason=f"the last reply is not as asked: {problem}")
        return ending
