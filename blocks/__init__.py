"""Where systems are and the keys to them, as documents people edit in Prefect's UI."""

from blocks.pager import Pager
from blocks.postgres import PostgresServer
from blocks.storage import BackupStore

__all__ = ["BackupStore", "Pager", "PostgresServer"]
