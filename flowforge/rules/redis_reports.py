"""What operations on a Redis report, as markdown for Prefect's UI."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from flowforge.rules.backups import Copy
from flowforge.rules.proofs import Proof
from flowforge.rules.redis_copies import RedisManifest
from flowforge.rules.redis_restores import RedisRestorePlan
from flowforge.rules.redis_snapshots import Snapshot
from flowforge.rules.reports import duration, size

_VERDICTS = {"proven": "Proven", "failed": "NOT GOOD", "inconclusive": "Not proven yet"}


def backup_report(
    manifest: RedisManifest,
    proofs: Sequence[Proof],
    copies: Sequence[Copy],
    forgotten: Sequence[str],
    remarks: Sequence[str],
    *,
    now: datetime,
) -> str:
    """The report of one backup of a Redis."""
    best, rdb, data = proofs[-1], manifest.rdb, manifest.data
    age = duration((now - manifest.snapshot_at).total_seconds())
    offset = "not said" if rdb.replication_offset is None else f"{rdb.replication_offset:,}"
    took = f"{duration(manifest.seconds)} to copy, {duration(proofs[0].seconds)} to read back"
    if len(proofs) > 1:
        took += f", {duration(best.seconds)} to load and compare"
    lines = [
        f"# {_VERDICTS[best.verdict]}: `{manifest.server.name}`, Redis {manifest.server.version}",
        "",
        f"**{best.summary()}.** Copy `{manifest.name}` in store `{copies[0].store}`.",
        "",
        "| | | source of the figure |",
        "|---|---|---|",
        f"| snapshot taken | {manifest.snapshot_at:%Y-%m-%d %H:%M:%S} UTC | the server's clock |",
        f"| lost if it died now (RPO) | writes of the last {age} | measured |",
        f"| to load it (RTO) | {_restore_time(best)} | measured in this run |",
        f"| keys | {rdb.key_count:,}, {rdb.expires:,} of them expire | read from the snapshot |",
        f"| databases | {len(rdb.database_offsets)} | read from the snapshot |",
        f"| replication offset | {offset} | written into the snapshot by the server |",
        f"| checksum (CRC-64) | {rdb.crc64 or 'none'} | the server's own, computed again here |",
        f"| stored | {size(data.size_bytes)} of {size(data.raw_bytes)} | measured |",
        f"| took | {took} | measured |",
        f"| copies kept | {len(copies)}, {len(forgotten)} forgotten in this run | the store |",
    ]
    lines += _section("Differences", best.differences)
    lines += _section("Remarks", [*manifest.warnings, *best.remarks, *remarks])
    return "\n".join([*lines, *_how_to_restore(manifest)])


def evidence(manifest: RedisManifest, proof: Proof) -> str:
    """The one line of a backup in a table."""
    return f"{proof.summary()}, {size(manifest.data.size_bytes)} stored"


def snapshot_report(server: str, snapshot: Snapshot, kept: int, forgotten: Sequence[str]) -> str:
    """The report of a snapshot that Amazon took."""
    create = (
        "aws elasticache create-replication-group --replication-group-id NEW "
        f"--replication-group-description restored --snapshot-name {snapshot.name}"
    )
    lines = [
        f"# Taken by Amazon: `{server}`, snapshot `{snapshot.name}`",
        "",
        "**Available, and not proven:** what is in it can be neither read nor loaded from here.",
        "",
        "| | |",
        "|---|---|",
        f"| replication group | {snapshot.replication_group}, {snapshot.shards} shards |",
        f"| engine | {snapshot.engine} {snapshot.engine_version} on {snapshot.node_type} |",
        f"| size, as Amazon says it | {size(snapshot.size_bytes)} |",
        f"| name at Amazon | `{snapshot.arn}` |",
        f"| snapshots kept | {kept}, {len(forgotten)} deleted in this run |",
        "",
        "## To restore it, as a new replication group",
        "",
        *_code(create),
    ]
    return "\n".join(lines)


def snapshot_evidence(snapshot: Snapshot) -> str:
    """The one line of such a snapshot in a table."""
    return f"snapshot {snapshot.name} is available at Amazon, not proven"


def plan_report(plan: RedisRestorePlan) -> str:
    """A restore plan as somebody agrees to it."""
    target, held = plan.target, plan.contents
    types = ", ".join(f"{count:,} {kind}" for kind, count in sorted(held.types.items())) or "none"
    lines = [
        f"# Plan `{plan.digest}`: `{plan.copy_name}` to `{target.server}`",
        "",
        "Nothing has been touched.",
        "",
        "| | |",
        "|---|---|",
        f"| copy of | `{plan.source_server}`, taken {plan.snapshot_at:%Y-%m-%d %H:%M:%S} UTC |",
        f"| proven to | {plan.copy_level.label} |",
        f"| keys that come back | {held.alive:,} in {len(held.alive_in)} databases |",
        f"| by type | {types} |",
        f"| in {target.server} now | {target.key_count:,} keys, {target.clients} other clients |",
    ]
    lines += _section("In the way, to be changed first", plan.obstacles)
    lines += _section("What putting it back does", plan.warnings)
    if not plan.obstacles:
        to = "" if target.server == plan.source_server else f" --to {target.server}"
        command = (
            f"flowforge redis apply {plan.source_server} --copy {plan.copy_name}{to} "
            f"--plan {plan.digest}"
        )
        lines += ["", "## To do it", "", *_code(command)]
    return "\n".join(lines)


def restored_report(plan: RedisRestorePlan, keys: int, kept_as: str | None, seconds: float) -> str:
    """The report of a restore that was done."""
    target = plan.target.server
    lines = [
        f"# Restored: `{target}` is `{plan.copy_name}`",
        "",
        f"**{keys:,} keys taken, each value checked by {target} against its own checksum**, in "
        f"{duration(seconds)} (measured).",
        "",
        f"It holds what was written until {plan.snapshot_at:%Y-%m-%d %H:%M:%S} UTC.",
    ]
    if kept_as:
        lines += ["", f"What was there before is held as copy `{kept_as}`. To go back:", ""]
        lines += _code(f"flowforge redis plan {target} --copy {kept_as}")
    return "\n".join(lines)


def restored_evidence(plan: RedisRestorePlan, keys: int, kept_as: str | None) -> str:
    """The one line of a restore in a table."""
    kept = f", what was there is held as {kept_as}" if kept_as else ""
    return f"{plan.copy_name} to {plan.target.server}: {keys:,} keys taken{kept}"


def _restore_time(proof: Proof) -> str:
    measured = proof.restore_seconds
    return "not measured" if measured is None else f"{duration(measured)}, on a scratch server"


def _how_to_restore(manifest: RedisManifest) -> list[str]:
    server = manifest.server.name
    plainly = (
        f"gunzip -c {manifest.name}.rdb.gz > dump.rdb && redis-check-rdb dump.rdb && "
        "redis-server --dir . --port 6380 --appendonly no"
    )
    return [
        "",
        "## To restore it",
        "",
        "Putting it back does work again that was queued at the snapshot; the plan says which.",
        "",
        *_code(f"flowforge redis plan {server} --copy {manifest.name}"),
        "",
        "Without FlowForge, as a server of its own:",
        "",
        *_code(plainly),
        "",
        f"SHA-256 of the file: `{manifest.data.sha256}`",
    ]


def _section(title: str, entries: Sequence[str]) -> list[str]:
    return (
        ["", f"## {title}", "", *(f"- {' '.join(e.split())}" for e in entries)] if entries else []
    )


def _code(command: str) -> list[str]:
    return ["```", command, "```"]
