"""Who pays for the model, and where it listens."""

from __future__ import annotations

from pydantic import Field, SecretStr

from flowforge.rules.values import Value


class Account(Value):
    """An account with the provider of the model."""

    name: str
    """By which budgets, limits and breakers know it; never the key."""

    api_key: SecretStr
    base_url: str | None = Field(
        default=None, description="Where the API is, if not the usual place"
    )
