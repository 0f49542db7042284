"""The account that agent jobs use, found by the server as workers find it."""

from __future__ import annotations

import logging

from pydantic import SecretStr

from flowforge.errors import FlowForgeError
from flowforge.rules.jobs.accounts import DEFAULT, Account
from flowforge.server.in_process import InProcess, read

_DOCUMENT = f"/block_types/slug/flowforge-claude-account/block_documents/name/{DEFAULT}"

log = logging.getLogger("flowforge.jobs")


class SavedAccount:
    """The account of the environment, or else the one that is saved in Prefect.

    Args:
        told: Of the environment.
        prefect: Prefect's API.
    """

    def __init__(self, told: Account | None, prefect: InProcess) -> None:
        self._told = told
        self._prefect = prefect

    async def find(self) -> Account | None:
        """The account; `None` when there is none, or none that can be read."""
        if self._told is not None:
            return self._told
        try:
            reply = await self._prefect.ask("GET", f"{_DOCUMENT}?include_secrets=true")
            if reply.status_code == 404:
                return None
            data = read(reply)["data"]
        except FlowForgeError as error:
            log.warning("models are not looked at before jobs are taken: %s", error.message)
            return None
        key, url = data.get("api_key"), data.get("base_url")
        return Account(name=DEFAULT, api_key=SecretStr(key), base_url=url) if key else None
