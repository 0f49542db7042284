"""The access to private Git repositories."""

from __future__ import annotations

import re

from prefect.blocks.core import Block
from pydantic import Field, SecretStr, field_validator

from flowforge.engines.agent.sources_access import Access, KeyAccess, TokenAccess, place_of
from flowforge.errors import Refused
from flowforge.rules.jobs.spec import REPOSITORY


class GitRepository(Block):
    """What opens a private repository: a token for HTTPS, or a key for SSH."""

    _block_type_name = "Git access"
    _block_type_slug = "flowforge-git-access"
    _description = "Opens private repositories for agent jobs; the sandbox never sees it."

    token: SecretStr | None = Field(default=None, description="Token or password for HTTPS")
    username: str = Field(default="x-access-token", description="Who the token belongs to")
    private_key: SecretStr | None = Field(default=None, description="Private key for SSH")
    known_hosts: str = Field(
        default="", description="Lines of known_hosts; no other host is spoken to by SSH"
    )
    url: str | None = Field(
        default=None,
        description="A repository it opens, which a test asks; the token goes to its host alone",
    )

    @field_validator("url")
    @classmethod
    def _without_password(cls, url: str | None) -> str | None:
        if url is not None and not re.match(REPOSITORY, url):
            raise ValueError("this is not the URL of a repository without a password in it")
        return url

    def access(self, name: str) -> Access:
        """The plain value engines work with.

        Raises:
            Refused: It holds neither a token nor a key.
        """
        if self.private_key is not None:
            return KeyAccess(self.private_key.get_secret_value(), self.known_hosts)
        if self.token is not None:
            place = place_of(self.url) if self.url is not None else None
            return TokenAccess(self.token.get_secret_value(), self.username, place)
        raise Refused(
            f"The Git access {name} holds neither a token nor a key.",
            hint=f"Save one of both with `flowforge repo add {name}`.",
        )

    @property
    def where(self) -> str:
        """What kind of access it is, and to what."""
        kind = "SSH key" if self.private_key is not None else f"token of {self.username}"
        return f"{kind} for {self.url}" if self.url is not None else kind
