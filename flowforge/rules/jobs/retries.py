"""What the failure of a call to the model means, and how long to wait before the next one.

There is one layer of retries, this one. Errors are told apart by code, then by type, then by
status: an error in the middle of a stream carries the status 200.
"""

from __future__ import annotations

from typing import Literal

from flowforge.rules.values import Value

MOST_CALLS = 8
"""As often is one turn asked for before the job gives its place back."""

LONGEST_WAIT_SECONDS = 60.0
"""Who would have to wait longer gives the place back, too."""

MOST_MALFORMED = 2
"""So many replies with a tool's input that is no JSON end the job: each of them is paid."""

LONGEST_AFTER_SECONDS = 900.0
"""The most that is believed of a provider that wants to be left alone; then it is asked again."""

Kind = Literal[
    "again", "malformed", "rate", "overloaded", "credential", "spend", "too_long", "request"
]
"""`again`: a fault on the way. `malformed`: a tool's input is no JSON. `rate`: too fast.
`overloaded`: the provider has too much to do. `credential` and `spend`: nobody should ask with this
account now. `too_long`: the conversation does not fit. `request`: it is wrong, and would be wrong
again."""

_SPEND_CODES = frozenset(
    {"enforced_spend_limit_reached", "contract_spend_limit_reached", "credit_balance_too_low"}
)
_BY_TYPE: dict[str, Kind] = {
    "rate_limit_error": "rate",
    "overloaded_error": "overloaded",
    "api_error": "again",
    "timeout_error": "again",
    "conflict_error": "again",
    "authentication_error": "credential",
    "permission_error": "credential",
    "billing_error": "spend",
}
_WRONG_TYPES = ("invalid_request_error", "not_found_error")
_BY_STATUS: dict[int, Kind] = {
    401: "credential",
    402: "spend",
    403: "credential",
    408: "again",
    409: "again",
    413: "too_long",
    429: "rate",
    529: "overloaded",
}
_TOO_LONG = ("prompt is too long", "exceed context limit", "context window")
_SPENT = ("spend limit", "usage limit", "credit balance")


class Failure(Value):
    """A call that brought no whole reply."""

    kind: Kind
    message: str
    after_seconds: float | None = None
    """How long the provider wants to be left alone."""

    begun: bool = False
    """Whether the reply had begun, so that it may be billed."""

    @property
    def may_be_repeated(self) -> bool:
        """Whether the same call may go well later."""
        return self.kind in ("again", "malformed", "rate", "overloaded")


def classify(
    *, status: int | None = None, type: str | None = None, code: str | None = None, message: str
) -> Kind:
    """Say what an error means.

    Args:
        status: Of the HTTP response, if there was one.
        type: The error's `type`.
        code: The error's code, which few have.
        message: Its text, read only where the API tells two causes apart by nothing else.
    """
    said = message.lower()
    if code in _SPEND_CODES or (status in (400, 402, 429) and any(w in said for w in _SPENT)):
        return "spend"
    if type in ("invalid_request_error", None) and any(words in said for words in _TOO_LONG):
        return "too_long"
    if type in _BY_TYPE:
        return _BY_TYPE[type]
    if status in (None, 200) and type in _WRONG_TYPES:
        return "request"
    if status is None or status == 200 or status >= 500:
        return _BY_STATUS.get(status or 0, "again")
    return _BY_STATUS.get(status, "request")


def believe(after: str, unit: float = 1.0) -> float | None:
    """How many seconds a header says to wait; `None` when it says nothing sensible.

    A date says nothing here: our own wait is shorter, and may be repeated.
    """
    try:
        seconds = float(after) * unit
    except ValueError:
        return None
    return min(seconds, LONGEST_AFTER_SECONDS) if seconds >= 0 else None


def wait_seconds(tries: int, failure: Failure, spread: float) -> float:
    """How long to wait before the next call.

    Args:
        tries: How many calls of this turn have failed.
        failure: The last of them.
        spread: Between 0 and 1, drawn anew each time, so that a crowd does not come back at once.
    """
    if failure.after_seconds is not None:
        return failure.after_seconds * (1 + spread / 4)
    longest: float = min(0.25 * 2.0**tries, 30.0)
    return longest * (0.5 + spread / 2)
