"""What break-glass says: results on standard output, the way there on standard error."""

from __future__ import annotations

import time

from flowforge import terminal
from flowforge.engines.backup.restoring.restore import Restoration
from flowforge.errors import Refused
from flowforge.rules import restores
from flowforge.rules.backups import Copy, Manifest, Proof
from flowforge.rules.restores import RestorePlan

_EVERY_SECONDS = 5.0


class Progress:
    """Says every few seconds how far a restore is, so that nobody stops one that works."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self, done_bytes: int, all_bytes: int, table: str | None) -> None:
        """Told the stored bytes done, those in all, and the table just loaded."""
        now = time.monotonic()
        if now - self._last < _EVERY_SECONDS:
            return
        self._last = now
        said = f"loaded {terminal.show_bytes(done_bytes)} of {terminal.show_bytes(all_bytes)}"
        terminal.err.print(f"{said}, {terminal.show(table)}" if table else said, markup=False)


def say(text: str) -> None:
    """Say something on the way."""
    terminal.err.print(text, markup=False)


def say_skipped(why: str, json: bool) -> None:
    """Say why no copy was taken."""
    if json:
        terminal.print_json({"copy": None, "skipped": why})
        return
    terminal.out.print(f"Nothing to do: {why}", markup=False)


def row(copy: Copy) -> tuple[object, ...]:
    """A copy as a line of a table."""
    return (
        copy.server,
        copy.database,
        copy.name,
        terminal.show_age(copy.snapshot_at),
        terminal.show_bytes(copy.size_bytes),
        f"{copy.rows:,}",
        "failed" if copy.failed else copy.level.label,
    )


def print_proof(manifest: Manifest, found: Proof, json: bool) -> None:
    """Print what an examination found."""
    if json:
        terminal.print_json({"copy": manifest.name, "proof": found.model_dump(mode="json")})
        return
    terminal.print_facts(
        {
            "copy": f"{manifest.name} of {manifest.database.name} on {manifest.server.name}",
            "holds": f"{len(manifest.tables)} tables, {manifest.rows:,} rows, "
            f"{terminal.show_bytes(manifest.data.size_bytes)} stored",
            "verdict": found.summary(),
            "took": f"{found.seconds:.1f} s",
        }
    )
    for line in (*found.differences, *found.remarks):
        terminal.out.print(f"  {terminal.show(line)}", markup=False)


def print_plan(made: restores.RestorePlan) -> None:
    """Print what a restore would do.

    Raises:
        Refused: Something stands in its way.
    """
    terminal.print_facts(
        {
            "copy": f"{made.copy_name} of {made.source_database} on {made.source_server} "
            f"({made.copy_level.label})",
            "taken": f"{made.snapshot_at:%Y-%m-%d %H:%M:%S} UTC, "
            f"{terminal.show_age(made.snapshot_at)} ago",
            "goes to": f"{made.target.database} (PostgreSQL {made.target.major})",
            "the live one": f"is kept as {made.kept_as}" if made.kept_as else "there is none",
            "sessions ended": made.target.sessions if made.kept_as else None,
            "needs disk": f"about {terminal.show_bytes(made.database_bytes)}",
            "plan hash": made.digest,
        }
    )
    for warning in made.warnings:
        terminal.out.print(f"warning: {terminal.show(warning)}", markup=False)
    if made.obstacles:
        raise Refused("The restore cannot be done yet.", hint=" ".join(made.obstacles))


def print_restored(
    made: RestorePlan, done: Restoration, undo_words: str | None, json: bool
) -> None:
    """Print what a restore did, and the command that takes it back."""
    evidence = restores.evidence(made, done.compared, done.kept_as)
    if json:
        kept = {"restore_id": done.restore_id, "kept_as": done.kept_as, "seconds": done.seconds}
        terminal.print_json({"evidence": evidence, "database": done.database, **kept})
        return
    took = terminal.show_seconds(done.seconds)
    terminal.print_facts({"restored": evidence, "took": took, "take it back": undo_words})


def print_done_before(done: Restoration, undo_words: str | None, json: bool) -> None:
    """Say that an earlier try has done it all."""
    said = f"restore {done.restore_id} of {done.database} was finished by an earlier try"
    said += f", the old one is kept as {done.kept_as}" if done.kept_as else ""
    if json:
        facts = {"restore_id": done.restore_id, "kept_as": done.kept_as, "seconds": 0.0}
        terminal.print_json({"evidence": said, "database": done.database, **facts})
        return
    terminal.out.print(f"Nothing to do: {said}.", markup=False)
    terminal.print_facts({"take it back": undo_words})
