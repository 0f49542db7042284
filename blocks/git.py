"""The access to private Git repositories."""

from __future__ import annotations

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from flowforge.engines.agent.sources_access import Access, KeyAccess, TokenAccess
from flowforge.errors import Refused


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

    def access(self, name: str) -> Access:
        """The plain value engines work with.

        Raises:
            Refused: It holds neither a token nor a key.
        """
        if self.private_key is not None:
            return KeyAccess(self.private_key.get_secret_value(), self.known_hosts)
        if self.token is not None:
            return TokenAccess(self.token.get_secret_value(), self.username)
        raise Refused(
            f"The Git access {name} holds neither a token nor a key.",
            hint="Enter one of both in its block.",
        )

    @property
    def where(self) -> str:
        """What kind of access it is."""
        return "SSH key" if self.private_key is not None else f"token of {self.username}"
