from __future__ import annotations

import pytest

from flowforge.rules.jobs import retries
from flowforge.rules.jobs.retries import Failure, Kind


@pytest.mark.parametrize(
    ("status", "type", "code", "message", "kind"),
    [
        (401, "authentication_error", None, "invalid x-api-key", "credential"),
        (403, "permission_error", None, "not allowed", "credential"),
        (402, "billing_error", None, "no credit", "spend"),
        (400, "invalid_request_error", None, "Your credit balance is too low", "spend"),
        (400, "invalid_request_error", None, "reached your API usage limits", "spend"),
        (429, "rate_limit_error", "enforced_spend_limit_reached", "no", "spend"),
        (429, "rate_limit_error", "ramp_limit_exceeded", "slower", "rate"),
        (429, None, None, "", "rate"),
        (529, None, None, "", "overloaded"),
        (200, "overloaded_error", None, "in the middle of a stream", "overloaded"),
        (200, "invalid_request_error", None, "in the middle of a stream", "request"),
        (200, None, None, "in the middle of a stream", "again"),
        (500, "api_error", None, "", "again"),
        (503, None, None, "", "again"),
        (504, "timeout_error", None, "", "again"),
        (408, "invalid_request_error", None, "", "again"),
        (409, "conflict_error", None, "", "again"),
        (None, "not_found_error", None, "in a batch", "request"),
        (None, None, None, "a connection that broke", "again"),
        (400, "invalid_request_error", None, "prompt is too long: 9 > 8", "too_long"),
        (400, "invalid_request_error", None, "would exceed context limit", "too_long"),
        (413, "request_too_large", None, "", "too_long"),
        (400, "invalid_request_error", None, "messages.0: wrong", "request"),
        (404, "not_found_error", None, "no such model", "request"),
        (422, None, None, "", "request"),
    ],
)
def test_errors_are_told_apart_by_code_then_type_then_status(
    status: int | None, type: str | None, code: str | None, message: str, kind: Kind
) -> None:
    assert retries.classify(status=status, type=type, code=code, message=message) == kind
    may = kind in ("again", "malformed", "rate", "overloaded")
    assert Failure(kind=kind, message=message).may_be_repeated is may


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3),
        ("0.5", 0.5),
        ("86400", 900),
        ("inf", 900),
        ("-1", None),
        ("nan", None),
        ("", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_a_provider_is_believed_for_a_while_and_only_when_it_makes_sense(
    header: str, seconds: float | None
) -> None:
    assert retries.believe(header) == seconds


def test_milliseconds_are_seconds_too() -> None:
    assert retries.believe("300", unit=0.001) == pytest.approx(0.3)


def test_pauses_double_up_to_half_a_minute_and_differ_between_workers() -> None:
    failure = Failure(kind="again", message="")
    least = [retries.wait_seconds(tries, failure, 0) for tries in range(1, 10)]
    most = [retries.wait_seconds(tries, failure, 1) for tries in range(1, 10)]
    assert least[:3] == [0.25, 0.5, 1.0]
    assert least[-1] == 15
    assert most == [2 * seconds for seconds in least]


def test_who_is_told_to_wait_never_comes_back_too_early() -> None:
    failure = Failure(kind="rate", message="", after_seconds=8)
    assert retries.wait_seconds(1, failure, 0) == 8
    assert retries.wait_seconds(1, failure, 1) == 10
