"""Where systems are and the keys to them, as documents people edit in Prefect's UI."""

from blocks.pager import Pager
from blocks.postgres import PostgresServer
from blocks.recovery import BackupKey
from blocks.redis import RedisServer
from blocks.storage import BackupStore

__all__ = ["BackupKey", "BackupStore", "Pager", "PostgresServer", "RedisServer"]
