"""A place that keeps copies."""

from __future__ import annotations

from pathlib import Path

from prefect.blocks.core import Block
from pydantic import Field

from flowforge.rules.addresses import FolderAddress


class BackupStore(Block):
    """A folder that keeps copies, by server and database."""

    _block_type_name = "Backup store"
    _block_type_slug = "flowforge-backup-store"
    _description = "Where FlowForge keeps copies of databases."

    folder: str = Field(description="absolute path of a folder every operations worker can reach")

    def address(self, name: str) -> FolderAddress:
        """The plain value engines work with."""
        return FolderAddress(name=name, folder=Path(self.folder))

    @classmethod
    def of(cls, address: FolderAddress) -> BackupStore:
        """The block that says the same as an address."""
        return cls(folder=str(address.folder))
