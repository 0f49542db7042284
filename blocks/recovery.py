"""A key that opens sealed copies, kept for restores and drills."""

from __future__ import annotations

from prefect.blocks.core import Block
from pydantic import Field, SecretStr, field_validator

from flowforge.engines.backup.seals import recovery
from flowforge.errors import Refused


class BackupKey(Block):
    """An age secret key that opens sealed copies. Backups never ask for it."""

    _block_type_name = "Backup key"
    _block_type_slug = "flowforge-backup-key"
    _description = "A secret key that lets restores and drills open sealed copies."

    key: SecretStr = Field(description="what age-keygen wrote: a line AGE-SECRET-KEY-1...")

    @field_validator("key")
    @classmethod
    def _is_a_secret_key(cls, key: SecretStr) -> SecretStr:
        try:
            recovery.public_key(key)
        except Refused as error:
            raise ValueError(error.message) from None
        return key

    @property
    def where(self) -> str:
        """The public key it belongs to, which is no secret."""
        return recovery.public_key(self.key)
