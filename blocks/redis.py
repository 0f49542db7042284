"""A Redis somebody registered under a name."""

from __future__ import annotations

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from flowforge.rules.redis_addresses import AnyRedis, parse_redis_url


class RedisServer(Block):
    """One Redis, or a replication group of ElastiCache, and how FlowForge enters it."""

    _block_type_name = "Redis"
    _block_type_slug = "flowforge-redis"
    _description = "A Redis that FlowForge copies, and puts back when somebody asks for it."

    url: SecretStr = Field(
        description="redis://USER:PASSWORD@HOST:PORT, rediss:// with TLS, unix:///PATH, or "
        "elasticache://REPLICATION-GROUP?region=REGION"
    )

    def address(self, name: str) -> AnyRedis:
        """The plain value engines work with."""
        return parse_redis_url(self.url.get_secret_value(), name=name)

    @property
    def where(self) -> str:
        """The address as it may be shown: no password."""
        return self.address("-").where

    @classmethod
    def of(cls, url: str, name: str) -> RedisServer:
        """The block of a URL.

        Raises:
            Refused: It is not the URL of a Redis.
        """
        parse_redis_url(url, name=name)
        return cls(url=SecretStr(url))
