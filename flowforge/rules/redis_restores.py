"""What putting a copy of a Redis back would do, said before it is done and agreed to by its hash.

A database gives old answers when it is put back; a Redis also does old work again: jobs that were
in a queue at the snapshot are there once more, and whoever reads the queue does them twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import Field

from flowforge.rules.backups import Level
from flowforge.rules.redis_copies import KeyCounts
from flowforge.rules.restores import short_hash
from flowforge.rules.values import Value

UNFINISHED_KEY = "flowforge:restore:unfinished"
"""Is in database 0 of a Redis while it is being filled, and says by which plan."""

_PREFECT_STREAMS = frozenset({"events", "actions", "logs", "task-run-recorder"})
_QUEUES_OF = (
    ("rq:queue:", "RQ"),
    ("celery", "Celery"),
    ("_kombu", "Celery"),
    ("unacked", "Celery"),
    ("bull:", "BullMQ"),
    ("queue:", "Sidekiq or Resque"),
)


class Queue(Value):
    """A list or a stream, which somebody may work off."""

    database: int
    name: str = Field(description="its key; bytes that are no UTF-8 are escaped")
    kind: str = Field(description="`list` or `stream`")
    entries: int
    groups: int = Field(default=0, description="consumer groups of a stream")
    pending: int = Field(default=0, description="entries delivered and not acknowledged")


class Contents(Value):
    """What of a copy would be alive if it were put back now."""

    alive_in: dict[int, int] = Field(description="keys that have not expired, by database")
    expired: int = Field(description="keys whose time has passed since the snapshot; they stay out")
    types: dict[str, int] = Field(default_factory=dict, description="living keys by type")
    queues: tuple[Queue, ...] = Field(default=(), description="the longest lists and streams")
    prefect_keys: int = Field(default=0, description="keys named as Prefect's server names its own")
    has_functions: bool = Field(default=False, description="whether it holds function libraries")

    @property
    def alive(self) -> int:
        """Living keys of all databases."""
        return sum(self.alive_in.values())


class RedisTarget(Value):
    """What was seen of the Redis to put a copy into."""

    server: str
    version: str
    run_id: str
    is_replica: bool
    is_cluster: bool
    keyspace: dict[int, KeyCounts]
    clients: int = Field(description="other clients connected now")
    free_bytes: int | None = Field(description="what its maxmemory leaves when it is emptied")
    lacking_databases: tuple[int, ...] = Field(
        default=(), description="databases of the copy that it does not have"
    )
    unfinished: str | None = Field(
        default=None, description="the plan by which it is half filled, if any"
    )

    @property
    def key_count(self) -> int:
        """Keys of all databases."""
        return sum(counts.key_count for counts in self.keyspace.values())


class RedisRestorePlan(Value):
    """What a restore would do. Two plans with equal `digest` do the same."""

    copy_name: str
    source_server: str
    store: str
    copy_sha256: str
    copy_level: Level
    snapshot_at: datetime
    planned_at: datetime
    loader_version: str = Field(description="version of the server the copy is read with")
    memory_bytes: int = Field(description="what the data took in the source's memory")
    contents: Contents
    target: RedisTarget
    obstacles: tuple[str, ...] = Field(description="what has to be changed first, as instructions")
    warnings: tuple[str, ...] = Field(description="what putting it back would do")

    @property
    def replaces(self) -> bool:
        """Whether the target holds anything that would go."""
        return self.target.key_count > 0

    @property
    def digest(self) -> str:
        """The hash somebody agrees to. It leaves out what may change in between without harm."""
        text = "\n".join(
            [
                "redis",
                self.source_server,
                self.copy_name,
                self.copy_sha256,
                self.target.server,
                self.target.run_id,
                "replaces what is there" if self.replaces else "into an empty one",
            ]
        )
        return short_hash(text)


def find_obstacles(
    target: RedisTarget,
    *,
    loader: tuple[int, int],
    target_version: tuple[int, int],
    memory_bytes: int,
    copy_failed: bool,
) -> tuple[str, ...]:
    """What keeps a copy from being put back, each as an instruction.

    Args:
        target: Where it would go.
        loader: Major and minor version of the server that hands the values over.
        target_version: The same of the target.
        memory_bytes: What the data needs.
        copy_failed: Whether the copy failed its last examination.
    """
    found = []
    if copy_failed:
        found.append("The copy failed its last examination: choose another one.")
    if target.is_replica:
        found.append(f"{target.server} is a replica: restore to its master.")
    if target.is_cluster:
        found.append(f"{target.server} is a node of a cluster: restore to a server of its own.")
    if target_version < loader:
        found.append(
            f"{target.server} runs {target.version}, older than the {loader[0]}.{loader[1]} that "
            "reads the copy: upgrade it, or plan where Redis of its version is installed."
        )
    if target.lacking_databases:
        numbers = ", ".join(map(str, target.lacking_databases))
        found.append(f"{target.server} has no database {numbers}: raise its `databases` setting.")
    if target.free_bytes is not None and target.free_bytes < memory_bytes:
        found.append(
            f"{target.server} may take {target.free_bytes:,} bytes, the copy needs "
            f"{memory_bytes:,}: raise its maxmemory."
        )
    return tuple(found)


def describe_replay(contents: Contents, target: RedisTarget, ago: str) -> tuple[str, ...]:
    """What would happen once a copy is back, in sentences for the person who decides.

    Args:
        contents: What would be alive.
        target: Where it would go.
        ago: How long ago the snapshot was taken, in words.
    """
    said = []
    if target.unfinished:
        said.append(
            f"{target.server} is half filled by plan {target.unfinished}: applying that one again "
            "finishes it; this plan would keep a copy of the half and begin anew."
        )
    if target.key_count:
        said.append(
            f"{target.key_count:,} keys in {target.server} now are replaced. A copy of them is "
            "taken and held first; putting that copy back undoes the restore."
        )
    if target.clients:
        said.append(
            f"{target.clients} other clients are connected: stop what writes, or what they write "
            "while it runs is mixed in or lost."
        )
    if contents.prefect_keys or _is_prefects(contents.queues):
        said.append(
            "This looks like the messaging of a Prefect server: events of "
            f"{ago} ago are delivered again, so automations may act a second time on old runs. "
            "Stop the server's services, or restore to an empty Redis that no server uses."
        )
    said += _describe_queues(contents, ago)
    if contents.expired:
        said.append(f"{contents.expired:,} keys have expired since the snapshot and stay out.")
    if not contents.queues and contents.alive:
        said.append(f"Cached values of {ago} ago are served again until they expire.")
    return tuple(said)


def intent(plan: RedisRestorePlan) -> str:
    """The one line of a plan in a table."""
    return f"plan {plan.digest}: {plan.copy_name} of {plan.source_server} to {plan.target.server}"


def _is_prefects(queues: Sequence[Queue]) -> bool:
    streams = {queue.name for queue in queues if queue.kind == "stream" and queue.groups}
    return "events" in streams and len(streams & _PREFECT_STREAMS) > 1


def _describe_queues(contents: Contents, ago: str) -> list[str]:
    said = []
    for queue in contents.queues:
        whose = next((kind for start, kind in _QUEUES_OF if queue.name.startswith(start)), None)
        of = f" (a queue of {whose}, by its name)" if whose else ""
        place = f"{queue.kind} {queue.name!r} in database {queue.database}{of}"
        if queue.kind == "list":
            said.append(f"{place}: {queue.entries:,} entries come back and are done once more.")
        elif queue.groups:
            said.append(
                f"{place}: {queue.entries:,} entries come back, {queue.pending:,} of them "
                f"delivered and not acknowledged; its {queue.groups} groups read on from where "
                f"they were {ago} ago, so what they did since is done twice."
            )
        else:
            said.append(f"{place}: {queue.entries:,} entries come back; nobody reads by a group.")
    return said
