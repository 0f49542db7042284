"""Answer a run that waits for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import JsonValue

from flowforge.client.exchange import Exchange, ask, explain
from flowforge.client.runs import RunFacts
from flowforge.errors import Refused

if TYPE_CHECKING:
    from flowforge.client.calls import Calls

SUSPENDED = "PAUSED"


def answer(
    calls: Calls, flow_run_id: str, *, agree: bool, plan_hash: str, approver: str, note: str
) -> Exchange[RunFacts]:
    """Say yes or no to a waiting run, which then goes on from its first line.

    Raises:
        Refused: The run waits for nobody, or does not take the answer.
    """
    run = yield from calls.read_run(flow_run_id)
    if run.state_type != SUSPENDED:
        raise Refused(
            f"{run.name} waits for nobody: it is {run.state}.",
            hint=f"Read what it did at {run.url}",
        )
    given: JsonValue = {
        "agree": agree,
        "plan_hash": plan_hash,
        "approver": approver,
        "note": note,
    }
    request = calls.prefect("POST", f"flow_runs/{run.id}/resume", {"run_input": given})
    reply = yield from ask(request, calls.patience_seconds)
    if not reply.is_ok:
        raise explain(reply, request)
    # Prefect says no with status 200: what counts is the word in the body.
    body = reply.body if isinstance(reply.body, dict) else {}
    if body.get("status") != "ACCEPT":
        details = body.get("details")
        why = details.get("reason") if isinstance(details, dict) else None
        raise Refused(
            f"{run.name} did not take the answer: {why or body.get('status')}.",
            hint=f"Answer it on its page: {run.url}",
        )
    return (yield from calls.read_run(run.id))
