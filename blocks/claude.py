"""An account that pays for the model."""

from __future__ import annotations

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from flowforge.rules.jobs.accounts import Account


class ClaudeAccount(Block):
    """An account with Anthropic, or with whatever else speaks its API."""

    _block_type_name = "Claude account"
    _block_type_slug = "flowforge-claude-account"
    _description = "Who pays for the model that agent jobs ask."

    api_key: SecretStr = Field(description="The key; it never enters a sandbox")
    base_url: str | None = Field(
        default=None, description="Where the API listens, if not at Anthropic's"
    )

    def account(self, name: str) -> Account:
        """The plain value engines work with."""
        return Account(name=name, api_key=self.api_key, base_url=self.base_url)

    @property
    def where(self) -> str:
        """Where it listens."""
        return self.base_url or "Anthropic"
