"""A PostgreSQL server somebody registered under a name."""

from __future__ import annotations

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from flowforge.rules.addresses import PostgresAddress


class PostgresServer(Block):
    """One PostgreSQL server and the account FlowForge enters it with."""

    _block_type_name = "PostgreSQL server"
    _block_type_slug = "flowforge-postgres-server"
    _description = "A PostgreSQL server that FlowForge backs up, restores or fails over."

    host: str = Field(description="host name, address, or the folder of its Unix socket")
    port: int = Field(default=5432, description="port it listens on")
    user: str = Field(description="role to enter as; it must be able to read every table")
    password: SecretStr = Field(default=SecretStr(""), description="that role's password")
    database: str = Field(description="the database meant when a run names none")
    options: dict[str, str] = Field(
        default_factory=dict, description="libpq options such as sslmode and sslrootcert"
    )

    def address(self, name: str) -> PostgresAddress:
        """The plain value engines work with."""
        return PostgresAddress(
            name=name,
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password,
            database=self.database,
            options=self.options,
        )

    @classmethod
    def of(cls, address: PostgresAddress) -> PostgresServer:
        """The block that says the same as an address."""
        return cls(
            host=address.host,
            port=address.port,
            user=address.user,
            password=address.password,
            database=address.database,
            options=address.options,
        )
