"""The sandbox profiles that are saved in Prefect, for whoever submits jobs and for the steward."""

from __future__ import annotations

import math
import time

from flowforge.rules.jobs import profiles
from flowforge.rules.jobs.profiles import Known
from flowforge.rules.jobs.spec import JobSpec
from flowforge.rules.jobs.submission import Problem
from flowforge.server.in_process import InProcess, read

_DOCUMENTS = "/block_types/slug/flowforge-sandbox-profile/block_documents"
_FRESH_SECONDS = 5.0


class SavedProfiles:
    """Reads the profiles, and keeps them for a few seconds.

    Args:
        prefect: Prefect's API.
    """

    def __init__(self, prefect: InProcess) -> None:
        self._prefect = prefect
        self._known: Known = {}
        self._read_at = -math.inf

    async def read(self) -> Known:
        """Every profile there is.

        Raises:
            Unavailable: Prefect did not say.
        """
        reply = await self._prefect.ask("GET", _DOCUMENTS)
        # Prefect does not know the type before the first document, or `flowforge up`.
        rows = [] if reply.status_code == 404 else read(reply)
        self._known = profiles.read({row["name"]: row["data"] for row in rows})
        self._read_at = time.monotonic()
        return self._known

    async def check(self, spec: JobSpec) -> list[Problem]:
        """What a job asks for that its profile does not give.

        What is kept can be out of date, so nobody is refused for that; who is let in for that is
        refused when the sandbox is made.
        """
        is_fresh = time.monotonic() - self._read_at < _FRESH_SECONDS
        if is_fresh and not profiles.find_problems(spec.sandbox, self._known):
            return []
        return profiles.find_problems(spec.sandbox, await self.read())
