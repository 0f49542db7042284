"""Steps on a store: read a copy back, list copies, keep proofs, forget what is no longer wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from blocks import lookup
from flowforge.engines.backup.dumping import fence
from flowforge.engines.backup.proving import examining
from flowforge.engines.backup.shelf import catalogue, forget, history, holds, mirror, renames
from flowforge.engines.backup.stores.store import open_store
from flowforge.errors import Damaged, Refused
from flowforge.rules import drills, restores, retention
from flowforge.rules.backups import Copy, Level, Manifest, Proof
from flowforge.rules.drills import Drill
from tasks import ledger, retrying


@task(
    task_run_name="read {manifest.name} back from {store}",
    cache_policy=NO_CACHE,
    retries=retrying.RETRIES,
    retry_delay_seconds=retrying.DELAYS_SECONDS,
    retry_condition_fn=retrying.only_unavailable,
)
def read_back(manifest: Manifest, store: str) -> Proof:
    """Read every byte of a copy and keep the proof beside it.

    Raises:
        Damaged: The store does not hold what was written.
    """
    kept_in = open_store(lookup.find_store(store))
    proof = examining.read_back(kept_in, manifest)
    catalogue.add_proof(kept_in, manifest, proof)
    check_proof(proof)
    return proof


def check_proof(proof: Proof) -> None:
    """Stop when a copy was shown to be bad.

    Raises:
        Damaged: It was; the message names the first difference.
    """
    if proof.verdict == "failed" and proof.level == Level.ANSWERED:
        raise Damaged(
            f"{proof.copy_name} is what the database held, and that is not as expected: "
            f"{proof.cause}.",
            hint="Look at the database first, then at the question. The copy stays usable, and "
            "nothing older was deleted.",
        )
    if proof.verdict == "failed":
        raise Damaged(
            f"{proof.copy_name} failed at {proof.level.label}: {proof.cause}.",
            hint="Older copies are untouched. Read the differences in the report, then back up "
            "again; do not restore this copy.",
            differences=list(proof.differences),
        )


@task(task_run_name="keep the proof of {manifest.name}", cache_policy=NO_CACHE)
def keep_proof(manifest: Manifest, proof: Proof, store: str) -> None:
    """Put a proof beside its copy."""
    catalogue.add_proof(open_store(lookup.find_store(store)), manifest, proof)


@task(task_run_name="list copies of {server}/{database} in {store}", cache_policy=NO_CACHE)
def list_copies(server: str, database: str, store: str) -> list[Copy]:
    """Every copy of one database, newest first."""
    return catalogue.list_copies(open_store(lookup.find_store(store)), server, database)


def choose_copy(copies: Sequence[Copy], wanted: str, *, server: str, database: str) -> Copy:
    """The copy of a name, or the newest usable one for `latest`.

    Raises:
        Refused: There is none.
    """
    named = {copy.name: copy for copy in copies}
    found = catalogue.newest_copy(copies) if wanted == "latest" else named.get(wanted)
    if found is None and copies and wanted == "latest":
        raise Refused(
            f"Every copy of {database!r} on {server} failed its last examination.",
            hint=f"Take a new one: `flowforge backup run {server}`.",
        )
    if found is None:
        raise Refused(
            f"There is no copy {wanted} of {database!r} on {server}.",
            hint=f"`flowforge backup list {server}` shows the copies there are.",
        )
    return found


@task(task_run_name="read the manifest of {copy.name}", cache_policy=NO_CACHE)
def load_manifest(copy: Copy) -> Manifest:
    """Everything known of a copy."""
    kept_in = open_store(lookup.find_store(copy.store))
    return catalogue.load_manifest(kept_in, copy.server, copy.database, copy.name)


@task(task_run_name="check whose copies {server}/{database} has", cache_policy=NO_CACHE)
def check_name(server: str, database: str, store: str, renamed_from: str | None) -> None:
    """Make sure that a renamed database's copies go on only when somebody confirmed it."""
    kept_in = open_store(lookup.find_store(store))
    renames.check(kept_in, lookup.find_server(server), database, renamed_from=renamed_from)


@task(task_run_name="bring copies of {server}/{database} to {other}", cache_policy=NO_CACHE)
def catch_up(
    server: str, database: str, store: str, other: str, policy: retention.Retention
) -> mirror.Caught:
    """Bring to a second store what it lacks, and forget there what the rule lets go.

    One that is away is behind, and no failure.
    """
    address = lookup.find_server(server)
    first, second = (open_store(lookup.find_store(name)) for name in (store, other))
    with fence.held(address, database):
        caught = mirror.catch_up(first, second, server, database, policy=policy)
    if caught.why is None:
        forget.forget_expired(second, address, database, policy)
    get_run_logger().info("brought %d copies to %s", len(caught.copied), other)
    return caught


def note_second_stores(server: str, database: str, caught: Sequence[mirror.Caught]) -> list[str]:
    """Tell the ledger what second stores hold now; return a remark on each that is behind."""
    remarks = []
    for one in caught:
        if one.why is None:
            ledger.note_copies(server, database, list_copies(server, database, one.store), {})
        remarks += one.remarks()
    return remarks


@task(task_run_name="estimate how long {copy.name} takes to load", cache_policy=NO_CACHE)
def estimate_seconds(copy: Copy) -> float | None:
    """How long a restore should take, by the pace of the last drills or by its own last proof."""
    kept_in = open_store(lookup.find_store(copy.store))
    drilled = history.read(kept_in, copy.server, copy.database)
    if by_pace := drills.estimate(drilled, copy.raw_bytes):
        return by_pace.seconds
    found = catalogue.load_proofs(kept_in, copy.server, copy.database, copy.name)
    return restores.last_measured(found)


@task(task_run_name="forget copies of {server}/{database}", cache_policy=NO_CACHE)
def forget_expired(
    server: str, database: str, store: str, policy: retention.Retention
) -> forget.Forgotten:
    """Delete the copies the rule lets go, and what killed runs left behind."""
    kept_in = open_store(lookup.find_store(store))
    done = forget.forget_expired(kept_in, lookup.find_server(server), database, policy)
    log = get_run_logger()
    log.info("forgot %d copies, swept %d leftovers", len(done.gone), len(done.swept.keys))
    for remark in done.remarks:
        log.warning("%s", remark)
    return done


@task(task_run_name="{word} {copy}", cache_policy=NO_CACHE)
def say_of_copy(
    server: str,
    database: str,
    store: str,
    copy: str,
    word: Literal["hold", "release", "accept"],
    reason: str,
    by: str,
) -> None:
    """Keep a person's word on a copy beside it."""
    kept_in = open_store(lookup.find_store(store))
    if word == "hold":
        holds.hold(kept_in, server, database, copy, reason=reason, by=by)
    elif word == "accept":
        holds.accept(kept_in, server, database, copy, reason=reason, by=by)
    else:
        holds.release(kept_in, server, database, copy)
    get_run_logger().info("%s %s: %s (%s)", word, copy, reason, by)


@task(task_run_name="keep the drill of {copy.name}", cache_policy=NO_CACHE)
def keep_drill(copy: Copy, proof: Proof) -> list[Drill]:
    """Keep what a drill found in the store, and return the last twelve, oldest first."""
    kept_in = open_store(lookup.find_store(copy.store))
    history.add(kept_in, drills.drill_of(copy, proof))
    return history.read(kept_in, copy.server, copy.database)
