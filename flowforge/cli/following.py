"""Start a run from the command line, tell how it goes, and return its evidence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import JsonValue

from flowforge import terminal

if TYPE_CHECKING:
    from flowforge.client import FlowForge, Operation, Run, RunFacts, Step

# Somebody sits at the terminal: say soon that nothing answers. Waiting for a run is more patient.
_PATIENCE_SECONDS = 5.0


@contextlib.contextmanager
def open_client(profile: str | None) -> Iterator[FlowForge]:
    """A client of the environment that is meant."""
    from flowforge.client import FlowForge

    with FlowForge(profile=profile, patience_seconds=_PATIENCE_SECONDS) as client:
        yield client


def follow(run: Run) -> Operation:
    """Wait for a run, saying on standard error what it does, and return what it recorded.

    Raises:
        Unavailable: The run failed and may be repeated.
        Refused: The run refused; nothing was touched.
        Damaged: The run left something that a person has to look at.
    """
    terminal.err.print(f"{run.name}: {run.url}", markup=False)
    told = [""]
    with terminal.err.status(f"{run.name} {run.state}") as spinner:

        def tell(facts: RunFacts, steps: list[Step]) -> None:
            text = describe(facts, steps)
            if text != told[0]:
                told[0] = text
                spinner.update(text)
                if not terminal.err.is_terminal:
                    terminal.err.print(text, markup=False)

        try:
            run.wait(on_look=tell)
        except KeyboardInterrupt:
            terminal.err.print(f"The run goes on: {run.url}", markup=False)
            raise
    return run.result()


def run_to_end(profile: str | None, deployment: str, **parameters: object) -> tuple[Run, Operation]:
    """Start a run, follow it, and return it with what it recorded; raises as `follow` does."""
    with open_client(profile) as client:
        run = client.run(deployment, idempotency_key=None, **parameters)
        return run, follow(run)


def start(profile: str | None, deployment: str, **parameters: object) -> Run:
    """Start a run and leave it alone."""
    with open_client(profile) as client:
        return client.run(deployment, idempotency_key=None, **parameters)


def describe(facts: RunFacts, steps: list[Step]) -> str:
    """What a run is doing, in one line."""
    going = [step.name for step in steps if step.state_type == "RUNNING"]
    done = sum(step.state_type == "COMPLETED" for step in steps)
    text = f"{facts.name} {facts.state}"
    if going:
        text += f": {', '.join(going)}"
    if done:
        text += f" ({done} steps done)"
    if facts.state == "Suspended":
        text += f": waits for a person; `flowforge approve {facts.id} --plan HASH`, or {facts.url}"
    if facts.state == "Late":
        text += ": no worker has taken it; `flowforge status` shows the workers"
    return text


def run_json(run: Run) -> JsonValue:
    """A run as commands print it."""
    return {
        "id": run.id,
        "name": run.name,
        "state": run.state,
        "url": run.url,
    }


def print_evidence(run: Run, operation: Operation, as_json: bool) -> None:
    """Print what a finished run recorded."""
    if as_json:
        terminal.print_json({"run": run_json(run), "operation": operation.model_dump(mode="json")})
        return
    row = (operation.operation, run.name, operation.evidence, f"{operation.seconds:.1f}")
    terminal.print_table(("operation", "run", "evidence", "seconds"), [row])


def print_started(run: Run, as_json: bool) -> None:
    """Print that a run was started and is left alone."""
    if as_json:
        terminal.print_json({"run": run_json(run)})
        return
    terminal.print_facts({"run": run.name, "state": run.state, "url": run.url})
