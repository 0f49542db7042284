"""Conversations the server remembers for a short while, by the id of their last reply."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from flowforge.twin.model.answers import Answer
from flowforge.twin.model.asked import Asked, Block, Message
from flowforge.twin.model.problems import Rejected

SECONDS = 300.0
_REMEMBERED = 2_000


class Threads:
    """What was said in each, and until when it is known."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: OrderedDict[str, tuple[float, list[Message]]] = OrderedDict()

    def whole(self, asked: Asked) -> Asked:
        """The request with all of its conversation.

        Raises:
            Rejected: It goes on from a reply that is not known, or not any more.
        """
        if asked.thread is None or asked.thread.type == "create":
            return asked
        until, before = self._known.get(asked.thread.previous_message_id or "", (0.0, []))
        if until <= self._clock():
            raise Rejected(404, "The thread was not found.", code="thread_not_found")
        return asked.model_copy(update={"messages": [*before, *asked.messages]})

    def keep(self, asked: Asked, answer: Answer) -> None:
        """Remember a conversation with its latest reply, if that was asked for."""
        if asked.thread is None:
            return
        blocks = [Block.model_validate(part.to_json()) for part in answer.parts]
        reply = Message(role="assistant", content=blocks)
        self._known[answer.id] = (self._clock() + SECONDS, [*asked.messages, reply])
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
