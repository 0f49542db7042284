"""What an operation's report says, as markdown for Prefect's UI.

Written for the person who reads it at three in the morning: the answer first, then the figures,
each with where it comes from, then the command to type next.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from flowforge.rules.backups import Copy, Manifest, Proof
from flowforge.rules.comparison import Comparison
from flowforge.rules.masks import MaskedTable
from flowforge.rules.restores import RestorePlan

DEFAULT_STORE = "backups"
"""The store that is meant when none is named."""

_MOST_TABLES = 40


def artifact_key(*parts: str) -> str:
    """A key Prefect accepts: lowercase letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(parts).lower()).strip("-") or "report"


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {left:02} s"


def size(count: float) -> str:
    """Bytes as a person says them (decimal units)."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def backup_evidence(manifest: Manifest, proof: Proof) -> str:
    """The one line of a backup in a table."""
    return f"{proof.summary()}, {size(manifest.data.size_bytes)} stored"


def backup_report(
    manifest: Manifest,
    proofs: Sequence[Proof],
    copies: Sequence[Copy],
    forgotten: Sequence[str],
    remarks: Sequence[str],
    *,
    now: datetime,
) -> str:
    """The report of one backup."""
    best, read_back = proofs[-1], proofs[0]
    proof = best if len(proofs) > 1 else None
    lines = [
        f"# {_headline(best)}: `{name(manifest.database.name)}` on `{manifest.server.name}`",
        "",
        f"**{best.summary()}.** Copy `{manifest.name}` in store `{copies[0].store}`.",
        "",
        "| | | source of the figure |",
        "|---|---|---|",
        *_freshness(manifest, proof, now),
        *_contents(manifest),
        *_costs(manifest, read_back, proof),
        f"| copies kept | {len(copies)}, {len(forgotten)} forgotten in this run | the store |",
    ]
    lines += section("Differences", best.differences)
    lines += section("Remarks", [*manifest.warnings, *best.remarks, *remarks])
    return "\n".join([*lines, *_to_restore(manifest, copies[0].store), *_tables(manifest)])


def _to_restore(manifest: Manifest, store: str) -> list[str]:
    database = shell(manifest.database.name)
    plan = f"flowforge restore plan {manifest.server.name} {database} --copy {manifest.name}"
    plan += "" if store == DEFAULT_STORE else f" --store {store}"
    unpacked = f"gunzip -c {manifest.name}.sql.gz"
    if manifest.seal:
        unpacked = f"age -d -i IDENTITY {manifest.name}.sql.gz.age | gunzip -c"
    plainly = f"{unpacked} | psql -X -v ON_ERROR_STOP=1 NEW"
    return [
        "",
        "## To restore it",
        "",
        *code(plan),
        "",
        "Without FlowForge, into an empty database:",
        "",
        *code(plainly),
        "",
        f"SHA-256 of the file: `{manifest.data.sha256}`. Step by step, and how to open a sealed "
        "copy: docs/operations/break-glass.md",
    ]


def _freshness(manifest: Manifest, proof: Proof | None, now: datetime) -> list[str]:
    age = duration((now - manifest.snapshot_at).total_seconds())
    measured = proof.restore_seconds if proof else None
    restore = "not measured" if measured is None else f"{duration(measured)}, on a scratch server"
    return [
        f"| snapshot taken | {manifest.snapshot_at:%Y-%m-%d %H:%M:%S} UTC | the server's clock |",
        f"| lost if the database died now (RPO) | writes of the last {age} | measured |",
        f"| to restore it (RTO) | {restore} | measured in this run |",
    ]


def _contents(manifest: Manifest) -> list[str]:
    counted = sum(table.counted is not None for table in manifest.tables)
    tables, objects = len(manifest.tables), manifest.large_objects.count
    return [
        f"| tables, rows | {tables}, {manifest.rows:,} | counted in the stored bytes |",
        f"| counted by the source too | {counted} of {tables}, all equal | same snapshot |",
        f"| large objects | {objects:,} | counted in the stored bytes |",
    ]


def _costs(manifest: Manifest, read_back: Proof, proof: Proof | None) -> list[str]:
    data = manifest.data
    took = f"{duration(manifest.seconds)} to copy, {duration(read_back.seconds)} to read back"
    if proof:
        took += f", {duration(proof.seconds)} to restore and compare"
    tools = f"{manifest.server.version}, dumped with {manifest.tool_versions['pg_dump']}"
    return [
        f"| stored | {size(data.size_bytes)} of {size(data.raw_bytes)} text | measured |",
        f"| took | {took} | measured |",
        f"| PostgreSQL | {tools}{_scratch(proof)} | said by the programs |",
    ]


def drill_report(copy: Copy, proof: Proof) -> str:
    """The report of one restore drill."""
    restore = duration(proof.restore_seconds) if proof.restore_seconds else "not measured"
    lines = [
        f"# {_headline(proof)}: copy `{copy.name}` of `{name(copy.database)}` on `{copy.server}`",
        "",
        f"**{proof.summary()}.**",
        "",
        "| | |",
        "|---|---|",
        f"| taken | {copy.snapshot_at:%Y-%m-%d %H:%M:%S} UTC |",
        f"| restored in (RTO, measured here) | {restore} |",
        f"| restored and compared in | {duration(proof.seconds)} |",
        f"| tables compared | {proof.tables_digested} of {proof.tables_total} row for row, "
        f"{proof.tables_counted} counted |",
        f"| rows compared | {proof.rows_compared:,} |",
        f"| definitions compared | {proof.definitions_compared:,} |",
        f"| indexes checked against their rows | {proof.indexes_checked:,} |",
        f"| time of each phase | {_phases(proof)} |",
    ]
    lines += section("Questions", [answer.line() for answer in proof.answers])
    lines += section("Differences", proof.differences)
    lines += section("Remarks", proof.remarks)
    return "\n".join(lines)


def _phases(proof: Proof) -> str:
    phases = (f"{name} {duration(took)}" for name, took in proof.phase_seconds.items())
    return ", ".join(phases) or "not measured"


def plan_report(plan: RestorePlan) -> str:
    """A restore plan as somebody agrees to it."""
    estimate = "not known" if plan.estimated_seconds is None else duration(plan.estimated_seconds)
    target = plan.target
    kept_as = f"`{name(plan.kept_as)}`" if plan.kept_as else "there is none"
    lines = [
        f"# Plan `{plan.digest}`: `{plan.copy_name}` to `{name(target.database)}`, "
        f"server `{target.server}`",
        "",
        "Nothing has been touched.",
        "",
        "| | |",
        "|---|---|",
        f"| copy of | `{name(plan.source_database)}` on `{plan.source_server}`, "
        f"taken {plan.snapshot_at:%Y-%m-%d %H:%M:%S} UTC |",
        f"| proven to | {plan.copy_level.label} |",
        f"| writes lost if it replaces the live one | the last {duration(plan.loses_seconds)} |",
        f"| size of the original | {size(plan.database_bytes)}; as much must be free there |",
        f"| time to load, from its last drills or proof | {estimate} |",
        f"| the live database is kept as | {kept_as} |",
        f"| sessions that will be ended | {target.sessions} |",
    ]
    masked = [f"{mask.table}.{mask.column} becomes {mask.expression}" for mask in plan.masks]
    lines += section("Masked before anybody sees it", masked)
    lines += section("In the way, to be changed first", plan.obstacles)
    lines += section("Mind", plan.warnings)
    if not plan.obstacles:
        to_server = "" if target.server == plan.source_server else f" --to-server {target.server}"
        same = target.database == plan.source_database
        to_database = "" if same else f" --to-database {shell(target.database)}"
        store = "" if plan.store == DEFAULT_STORE else f" --store {plan.store}"
        masks = "".join(
            f" --mask {shell(f'{mask.table}.{mask.column}={mask.expression}')}"
            for mask in plan.masks
        )
        command = (
            f"flowforge restore apply {plan.source_server} {shell(plan.source_database)} "
            f"--copy {plan.copy_name}{to_server}{to_database}{masks}{store} --plan {plan.digest}"
        )
        lines += ["", "## To do it", "", *code(command)]
    return "\n".join(lines)


def restored_report(
    plan: RestorePlan,
    compared: Comparison | None,
    masked: Sequence[MaskedTable],
    *,
    seconds: float,
) -> str:
    """The report of a restore that was done; nothing compared means an earlier run had done it."""
    target = plan.target
    done = (
        "An earlier run had already done it; nothing was done twice."
        if compared is None
        else f"**{compared.tables_digested} tables, {compared.rows_compared:,} rows compared "
        f"before it took its place**, in {duration(seconds)} (measured)."
    )
    lines = [
        f"# Restored: `{name(target.database)}` on `{target.server}` is `{plan.copy_name}`",
        "",
        done,
        "",
        f"It holds everything written until {plan.snapshot_at:%Y-%m-%d %H:%M:%S} UTC.",
    ]
    rows = [f"{one.rows:,} rows of {one.table}: {', '.join(one.columns)}" for one in masked]
    lines += section("Masked before anybody saw it", rows)
    if plan.kept_as:
        undo = f"flowforge restore undo {plan.restore_id} --server {target.server}"
        lines += [
            "",
            f"The database that was live is kept as `{name(plan.kept_as)}`. To go back:",
            "",
        ]
        lines += code(f"{undo} --database {shell(target.database)}")
        lines += ["", "When it is no longer wanted:", ""]
        lines += code(f'DROP DATABASE "{plan.kept_as}";')
    return "\n".join(lines)


def _headline(proof: Proof) -> str:
    return {"proven": "Proven", "failed": "NOT GOOD", "inconclusive": "Not proven yet"}[
        proof.verdict
    ]


def _scratch(proof: Proof | None) -> str:
    version = proof.tool_versions.get("postgres") if proof else None
    return f", restored on {version}" if version else ""


def section(title: str, entries: Sequence[str]) -> list[str]:
    """A heading with its entries; nothing at all when there is none."""
    return ["", f"## {title}", "", *(f"- {_plain(entry)}" for entry in entries)] if entries else []


def _tables(manifest: Manifest) -> list[str]:
    largest = sorted(manifest.tables, key=lambda table: table.raw_bytes, reverse=True)
    rows = [
        f"| {_plain(t.name)} | {t.rows:,} | {size(t.raw_bytes)} |" for t in largest[:_MOST_TABLES]
    ]
    more = len(largest) - len(rows)
    rest = [f"| and {more} more | | |"] if more else []
    return ["", "## Tables", "", "| table | rows | text |", "|---|---:|---:|", *rows, *rest]


def name(text: str) -> str:
    """A name inside backquotes, on one line."""
    return " ".join(text.replace("`", "'").split())


def _plain(text: str) -> str:
    """A name or message that cannot break the table or the page it stands in."""
    return re.sub(r"([|`*_<>\[\]\\])", r"\\\1", " ".join(text.split()))


def shell(word: str) -> str:
    """A word as a shell takes it."""
    safe = re.fullmatch(r"[\w@%+=:,./-]+", word)
    return word if safe else "'" + word.replace("'", "'\"'\"'") + "'"


def code(command: str) -> list[str]:
    """A command to copy."""
    return ["```", command, "```"]
