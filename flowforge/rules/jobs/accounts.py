"""Who pays for the model, where it listens, and which jobs wait for it."""

from __future__ import annotations

from pydantic import Field, SecretStr

from flowforge.rules.values import Value

DEFAULT = "default"
"""The name of the account that agent jobs use."""

HELD = "account "
"""Begins the reason of a job that waits because its account is not accepted."""


class Account(Value):
    """An account with the provider of the model."""

    name: str
    """By which budgets, limits and breakers know it; never the key."""

    api_key: SecretStr
    base_url: str | None = Field(
        default=None, description="Where the API is, if not the usual place"
    )


def held(name: str, why: str) -> str:
    """The reason of a job that waits until an account is accepted again.

    Args:
        name: Of the account.
        why: What the provider said.
    """
    return f"{HELD}{name}: {why}"


def holder(state: str, reason: str | None) -> str | None:
    """The account whose breaker holds a job; `None` when none does."""
    if state != "waiting" or reason is None or not reason.startswith(HELD):
        return None
    return reason.removeprefix(HELD).partition(": ")[0]
