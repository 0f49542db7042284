"""Everything one server process consists of, put together: Prefect, the shell, what runs beside."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from importlib import metadata
from typing import Any

import prefect
import sqlalchemy as sa
from alembic.util import CommandError
from fastapi import FastAPI
from prefect.server.api.server import create_app
from prefect.settings import get_current_settings

from flowforge import ledger
from flowforge.engines.agent.known_models import KnownModels
from flowforge.errors import FlowForgeError, Refused, Unavailable
from flowforge.server import answers, environment, guard, shell
from flowforge.server.accounts import SavedAccount
from flowforge.server.block_types import register_block_types
from flowforge.server.counting import count_jobs
from flowforge.server.crashes import Explained
from flowforge.server.flow_runs import PrefectRuns
from flowforge.server.git_access import SavedAccess
from flowforge.server.in_process import InProcess
from flowforge.server.journal import Journal, open_journal
from flowforge.server.metrics import Meters
from flowforge.server.outages import Patient, keep_brief
from flowforge.server.prober import Prober, open_database
from flowforge.server.profiles import SavedProfiles
from flowforge.server.serving import serve
from flowforge.server.sockets import Sockets
from flowforge.server.steward import keep_jobs
from flowforge.server.watch import Watch
from flowforge.settings import Settings

_CHECK = "Check that the PostgreSQL of DATABASE_URL runs, then start the server again."
_FIRST_TRIES = 3

log = logging.getLogger("flowforge.server")


@asynccontextmanager
async def open_platform(
    settings: Settings, taken: Sockets
) -> AsyncIterator[Coroutine[Any, Any, None]]:
    """Start Prefect; the value serves until told to stop, and Prefect stops after it.

    Raises:
        Unavailable: The database of `DATABASE_URL` did not answer.
    """
    version = metadata.version("flowforge")
    meters = Meters(version=version, prefect=prefect.__version__)
    books = await _open_ledger(settings)
    watch = Watch(books, settings.copy_max_age_seconds, settings.proof_max_age_seconds)
    prober = Prober(_prefect_database(settings), taken.ports[0])
    meters.watch_readiness(lambda: prober.is_ready)
    meters.watch_copies(lambda: watch.known)
    door = guard.open_door(taken.ports, settings.allowed_hosts, settings.public_api_url)
    application = create_app(ephemeral=False, final=True)
    keep_brief()
    async with _prefect_api(settings, application) as api, _journal(settings, api) as journal:
        own = _own_api(settings, books, journal, prober, version)
        public = shell.guarded(
            shell.Shell(Explained(Patient(application)), own, prober, settings.public_api_url),
            meters,
            door,
        )
        await _first_write(prober)
        async with _prefect_running(application):
            yield serve(
                [
                    (public, taken.api),
                    (public, taken.ui),
                    (shell.metrics_app(meters, door), taken.metrics),
                ],
                [
                    prober.run(),
                    watch.run(),
                    _keep_jobs(settings, journal, api),
                    count_jobs(meters),
                    register_block_types(prefect.__version__),
                    _watch_services(),
                ],
            )


async def _first_write(prober: Prober) -> None:
    for _ in range(_FIRST_TRIES):  # a PostgreSQL that is just starting, a machine that is busy
        await prober.probe()
        if prober.reason is None:
            return
        await asyncio.sleep(1.0)
    await prober.engine.dispose()
    raise Unavailable(f"Prefect's database does not take writes: {prober.reason}", hint=_CHECK)


@asynccontextmanager
async def _prefect_running(application: FastAPI) -> AsyncIterator[None]:
    lifespan = application.router.lifespan_context(application)
    try:
        await lifespan.__aenter__()
    except CommandError as error:
        raise Refused(
            f"Prefect {prefect.__version__} cannot use this database: {error}.",
            hint="It was used by another version of Prefect; start that version, or name another "
            "database in DATABASE_URL.",
        ) from error
    except (OSError, sa.exc.SQLAlchemyError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise Unavailable(f"Prefect could not prepare its database: {said}", hint=_CHECK) from error
    try:
        yield
    finally:
        # Prefect asserts on its way out that each service once started; one that failed did not.
        with contextlib.suppress(AssertionError):
            await lifespan.__aexit__(None, None, None)


async def _watch_services() -> None:
    """End the server when one of Prefect's services ended: it would not come back by itself."""
    services = [task for task in asyncio.all_tasks() if _is_service(task)]
    done, _ = await asyncio.wait(services, return_when=asyncio.FIRST_COMPLETED)
    names = ", ".join(sorted(_qualified_name(task) for task in done))
    raise Unavailable(
        f"A service of Prefect's server ended: {names}.",
        hint="Start the server again; its log says what the service ran into.",
    )


def _is_service(task: asyncio.Task[Any]) -> bool:
    return _qualified_name(task).endswith(".start") and not task.done()


def _qualified_name(task: asyncio.Task[Any]) -> str:
    return str(getattr(task.get_coro(), "__qualname__", ""))


@asynccontextmanager
async def _journal(settings: Settings, api: InProcess) -> AsyncIterator[Journal | None]:
    if settings.ledger_url is None:
        yield None
        return
    url = settings.ledger_url.get_secret_value()
    signs = settings.webhook_secret is not None
    models = KnownModels(SavedAccount(settings.account, api).find)
    checks = (SavedProfiles(api).check, SavedAccess(api).check, models.check)
    async with open_journal(url, checks=checks, takes_callbacks=signs) as journal:
        yield journal


@asynccontextmanager
async def _prefect_api(settings: Settings, application: FastAPI) -> AsyncIterator[InProcess]:
    api = InProcess(application, _auth_string(settings))
    try:
        yield api
    finally:
        await api.close()


async def _keep_jobs(settings: Settings, journal: Journal | None, api: InProcess) -> None:
    """Look after agent jobs; where there is no journal there are none."""
    if journal is None:
        await asyncio.Event().wait()
        return
    secret = settings.webhook_secret.get_secret_value() if settings.webhook_secret else None
    await keep_jobs(journal, PrefectRuns(api), SavedProfiles(api).read, secret)


def _own_api(
    settings: Settings,
    books: sa.Engine | None,
    journal: Journal | None,
    prober: Prober,
    version: str,
) -> FastAPI:
    return answers.create_app(
        books,
        journal,
        version=version,
        prefect=prefect.__version__,
        is_ready=lambda: prober.is_ready,
        auth_string=_auth_string(settings),
    )


def _auth_string(settings: Settings) -> str | None:
    secret = settings.jwt_secret
    return environment.auth_string(secret.get_secret_value()) if secret else None


async def _open_ledger(settings: Settings) -> sa.Engine | None:
    if settings.ledger_url is None:
        log.warning("no ledger: set DATABASE_URL or FLOWFORGE_LEDGER_URL to keep one")
        return None
    url = settings.ledger_url.get_secret_value()
    try:
        await asyncio.to_thread(ledger.migrate, url)
    except FlowForgeError as error:
        log.warning("%s The server goes on without it.", error)
    return ledger.connect(url)


def _prefect_database(settings: Settings) -> Any:
    if settings.database_url is not None:
        return open_database(settings.database_url.get_secret_value(), is_postgres=True)
    url = get_current_settings().server.database.connection_url
    assert url is not None
    log.warning("no DATABASE_URL: Prefect keeps its data in SQLite, which serves few at a time")
    return open_database(url.get_secret_value(), is_postgres=False)
