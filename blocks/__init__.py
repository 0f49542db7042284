"""Where systems are and the keys to them, as documents people edit in Prefect's UI."""

from blocks.claude import ClaudeAccount
from blocks.egress import EgressSecret
from blocks.git import GitRepository
from blocks.pager import Pager
from blocks.postgres import PostgresServer
from blocks.recovery import BackupKey
from blocks.redis import RedisServer
from blocks.sandboxes import SandboxProfile
from blocks.storage import BackupStore

__all__ = [
    "BackupKey",
    "BackupStore",
    "ClaudeAccount",
    "EgressSecret",
    "GitRepository",
    "Pager",
    "PostgresServer",
    "RedisServer",
    "SandboxProfile",
]
