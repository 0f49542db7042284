"""The named steps of an attempt; a test may have a process die at each of them."""

from __future__ import annotations

from flowforge.engines.steps import reached

__all__ = ["ATTEMPT", "TURN", "reached"]

ATTEMPT = ("sandbox", "patch")
"""A sandbox is there and empty; the patch is kept and the job has not ended."""

TURN = ("ask", "reply", "intent", "ran")
"""Followed by a dash and the number of the turn: money is set aside and the model not yet called;
its reply is there and not written; a tool's intent is written and it does not run yet; it has run
and its result is not written."""
