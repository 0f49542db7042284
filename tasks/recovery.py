"""Steps on the keys of sealed copies: who opens them, and wrapping them again."""

from __future__ import annotations

import time
from uuid import UUID

from prefect import get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE

from blocks import lookup
from flowforge.engines.backup.seals import rotation
from flowforge.engines.backup.shelf import inventory
from flowforge.engines.backup.stores.store import open_store
from flowforge.rules.recipients import Recipient
from tasks import retrying

_PROGRESS_EVERY_SECONDS = 5.0


@task(
    task_run_name="look whom copies in {store} are sealed to",
    cache_policy=NO_CACHE,
    retries=retrying.RETRIES,
    retry_delay_seconds=retrying.DELAYS_SECONDS,
    retry_condition_fn=retrying.only_unavailable,
)
def list_recipients(store: str) -> list[Recipient]:
    """Every public key that copies in a store are sealed to, and what rests on it."""
    return list(rotation.report(open_store(lookup.find_store(store))))


@task(task_run_name="list the databases in {store}", cache_policy=NO_CACHE)
def list_databases(store: str) -> list[tuple[str, str]]:
    """The databases that have copies in a store, each as (server, database)."""
    return sorted(inventory.take_all(open_store(lookup.find_store(store))))


@task(
    task_run_name="wrap keys of {server}/{database} in {store}",
    cache_policy=NO_CACHE,
    retries=retrying.RETRIES,
    retry_delay_seconds=retrying.DELAYS_SECONDS,
    retry_condition_fn=retrying.only_unavailable,
)
def rotate(store: str, server: str, database: str) -> rotation.Rotated:
    """Wrap the keys of a database's sealed copies to the recipients of today."""
    kept_in = open_store(lookup.find_store_to_read(store))
    bar = _ProgressBar(f"{server}/{database}")
    done = rotation.rotate(kept_in, server, database, on_progress=bar.tell)
    log = get_run_logger()
    log.info("wrapped %d keys, %d were so before", len(done.wrapped), len(done.current))
    for copy, why in done.closed.items():
        log.warning("%s: %s", copy, why)
    return done


class _ProgressBar:
    """A progress bar in the UI, once there is so much to do that one is wanted."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._next = time.monotonic() + _PROGRESS_EVERY_SECONDS
        self._artifact: UUID | None = None

    def tell(self, done: int, total: int) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _PROGRESS_EVERY_SECONDS
        percent, said = 100 * done / total, f"{self._subject}: {done} of {total} copies"
        if self._artifact is None:
            made = create_progress_artifact(percent, description=said)
            assert isinstance(made, UUID)  # the call is synchronous here
            self._artifact = made
        else:
            update_progress_artifact(self._artifact, percent, description=said)
