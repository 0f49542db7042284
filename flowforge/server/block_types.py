"""Enter Prefect's own catalogue of block types, once for each database and version.

Prefect would do it before it serves, and import every integration for it. Here it happens beside
the first requests, from the list that Prefect carries, and a note in Prefect's database says that
it is done.
"""

from __future__ import annotations

import logging
from typing import cast

from prefect.server.database import provide_database_interface
from prefect.server.models import block_registration, configuration
from prefect.server.schemas.core import Configuration
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

_NOTE = "FLOWFORGE_BLOCK_TYPES"

log = logging.getLogger("flowforge.server")


async def register_block_types(version: str) -> None:
    """Enter the block types unless this version of Prefect did so before."""
    session = await provide_database_interface().session()
    async with session:
        async with session.begin():
            note = await _read_note(session)
        if note is not None and note.value == {"prefect": version}:
            return
        try:
            await block_registration.run_block_auto_registration(session=session)
        except IntegrityError:  # a worker entered one at the same moment; the next start goes on
            log.warning("block types are being entered by somebody else too; left for later")
            return
        async with session.begin():
            done = Configuration(key=_NOTE, value={"prefect": version})
            await configuration.write_configuration(session, done)  # type: ignore[attr-defined]


async def _read_note(session: AsyncSession) -> Configuration | None:
    # Prefect's decorator hides the types of these two functions.
    found = await configuration.read_configuration(session, _NOTE)  # type: ignore[attr-defined]
    return cast("Configuration | None", found)
