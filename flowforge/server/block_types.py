"""Enter Prefect's own catalogue of block types, once for each database and version.

Prefect would do it before it serves, and import every integration for it. Here it happens beside
the first requests, from the list that Prefect carries, and a note in Prefect's database says that
it is done.
"""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from prefect.server.database import provide_database_interface
from prefect.server.models import block_registration, configuration
from prefect.server.schemas.core import Configuration
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

_NOTE = "FLOWFORGE_BLOCK_TYPES"
_AGAIN_SECONDS = 30.0

log = logging.getLogger("flowforge.server")


async def register_block_types(version: str) -> None:
    """Enter the block types unless this version of Prefect did so before; then wait for ever."""
    while not await _is_registered(version):
        await asyncio.sleep(_AGAIN_SECONDS)
    await asyncio.Event().wait()


async def _is_registered(version: str) -> bool:
    try:
        session = await provide_database_interface().session()
        async with session:
            async with session.begin():
                note = await _read_note(session)
            if note is None or note.value != {"prefect": version}:
                await block_registration.run_block_auto_registration(session=session)
                async with session.begin():
                    await _write_note(session, version)
    except (OSError, SQLAlchemyError) as error:
        # The database went away, or a worker entered the same type at the same moment.
        said = (str(error).splitlines() or [type(error).__name__])[0]
        log.warning("block types are entered later: %s", said)
        return False
    return True


async def _write_note(session: AsyncSession, version: str) -> None:
    done = Configuration(key=_NOTE, value={"prefect": version})
    await configuration.write_configuration(session, done)  # type: ignore[attr-defined]


async def _read_note(session: AsyncSession) -> Configuration | None:
    # Prefect's decorator hides the types of these two functions.
    found = await configuration.read_configuration(session, _NOTE)  # type: ignore[attr-defined]
    return cast("Configuration | None", found)
