"""Whatever reports a crash, the message says what happened and ends in an instruction."""

from __future__ import annotations

import pytest

from flowforge.rules.crashes import LOST, explain

RUN = "0b8a1f0e-6f0e-4f38-9a43-5d1fc9a4a0c2"


@pytest.mark.parametrize(
    ("reported", "cause"),
    [
        ("Process exited with status code: -9. Process was killed.", "was killed"),
        ("Flow run process exited with non-zero status code -9.", "was killed"),
        ("Flow run infrastructure exited with non-zero status code 137. Out", "was killed"),
        ("Process exited with status code: -15. Terminated.", "told to end"),
        ("Execution was aborted by a termination signal.", "told to end"),
        ("Execution was aborted by Python system exit call.", "told to end"),
        ("Execution was aborted by an interrupt signal.", "interrupted"),
        ("Execution was cancelled by the runtime environment.", "interrupted"),
        ("Flow run could not start: [Errno 2] No such file", "could not be started"),
        ("Flow run process could not be started:\nOSError()", "could not be started"),
        ("Failed to submit flow run to infrastructure: OSError: gone", "could not be started"),
        ("Request to http://127.0.0.1:8080/api/x failed: ConnectError", "lost the server"),
        ("Process exited with status code: -95. Unexpected.", "ended before it was done"),
        (LOST, "process of the run is gone"),
        ("", "ended before it was done"),
        (None, "ended before it was done"),
    ],
)
def test_a_crash_is_told_in_plain_words_with_what_was_reported_and_what_to_do(
    reported: str | None, cause: str
) -> None:
    kind, _, rest = explain(reported, RUN).partition(": ")
    message, _, hint = rest.partition(" Hint: ")
    assert kind == "Unavailable"
    assert cause in message
    assert (reported or "") in message
    assert "run it again" in hint
    assert f"`prefect flow-run retry {RUN}`" in hint


def test_a_message_that_has_a_hint_stays_as_it_is() -> None:
    told = "Damaged: The copy failed at L1.\nSee below. Hint: Look at the disk."
    assert explain(told, RUN) == told
    assert explain(explain("killed", RUN), RUN) == explain("killed", RUN)


def test_a_crash_of_several_runs_names_none() -> None:
    assert "`prefect flow-run retry ID`" in explain("Stopped by hand.")
