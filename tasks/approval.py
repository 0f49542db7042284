"""Ask a person before something that cannot be undone by a click.

The run is suspended: it holds no process and no slot while it waits, the UI shows its question as a
form, and `flowforge approve` answers it from a terminal. When it is answered the flow starts again
from its first line, so what was agreed to is looked at anew before it is done.
"""

from __future__ import annotations

from prefect import get_run_logger
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from pydantic import Field

from flowforge.errors import Refused

WAIT_SECONDS = 24 * 3600


class Agreement(RunInput):
    """What a person answers."""

    agree: bool = Field(description="do what the plan says")
    plan_hash: str = Field(description="the hash of the plan you read, so that no other is done")
    approver: str = Field(min_length=1, description="who you are")
    note: str = Field(default="", description="why, for whoever reads this later")


def ask(question: str, plan_hash: str, *, key: str) -> Agreement:
    """Suspend the run until a person has answered; called again after that, return the answer.

    Args:
        question: What is to be agreed to, as Markdown.
        plan_hash: The hash of the plan as it is now.
        key: A fixed name of this question within its flow.

    Raises:
        Refused: The person said no.
    """
    form = Agreement.with_initial_data(
        description=question, agree=False, plan_hash=plan_hash, approver="", note=""
    )
    answer = suspend_flow_run(wait_for_input=form, timeout=WAIT_SECONDS, key=key)
    assert isinstance(answer, Agreement)  # it is only ever empty when no form was given
    get_run_logger().info("%s answered: %s", answer.approver, "yes" if answer.agree else "no")
    if not answer.agree:
        raise Refused(
            f"{answer.approver} did not agree to plan {answer.plan_hash}.",
            hint=answer.note or "Ask them why, then plan again.",
        )
    return answer
