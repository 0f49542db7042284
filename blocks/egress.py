"""Secrets that the requests of agent jobs carry, which the jobs themselves never see."""

from __future__ import annotations

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from flowforge.rules.jobs.egress_secrets import HEADER, HostSecret
from flowforge.rules.jobs.spec import Host


class EgressSecret(Block):
    """What one host is told with every request of a job, such as a token.

    A job names it in `secrets`, and its host in `sandbox.egress`. The proxy of the sandbox adds it
    on the way to that host; nothing inside ever holds it.
    """

    _block_type_name = "Egress secret"
    _block_type_slug = "flowforge-egress-secret"
    _description = "Added to requests of agent jobs to one host; the sandbox never sees it."

    host: Host = Field(
        description="The only host that is told, such as api.example.com or api.example.com:8443"
    )
    header: str = Field(
        default="Authorization", description="The header it is said in", pattern=HEADER
    )
    format: str = Field(
        default="Bearer {secret}", description="What the header says, with {secret} in it once"
    )
    value: SecretStr = Field(description="The secret itself")

    def secret(self, name: str) -> HostSecret:
        """The plain value engines work with."""
        return HostSecret(
            name=name, host=self.host, header=self.header, format=self.format, value=self.value
        )

    @property
    def where(self) -> str:
        """Who is told, and how."""
        return f"{self.header} of {self.host}"
