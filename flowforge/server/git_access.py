"""Whether the access to a repository that a job names is saved in Prefect."""

from __future__ import annotations

from flowforge.rules.jobs.spec import GitSource, JobSpec
from flowforge.rules.jobs.submission import Problem
from flowforge.server.in_process import InProcess, read

_DOCUMENT = "/block_types/slug/flowforge-git-access/block_documents/name/{name}"


class SavedAccess:
    """The accesses to private repositories, by name; nothing in them is read.

    Args:
        prefect: Prefect's API.
    """

    def __init__(self, prefect: InProcess) -> None:
        self._prefect = prefect

    async def check(self, spec: JobSpec) -> list[Problem]:
        """What a job names that is not there.

        Raises:
            Unavailable: Prefect did not say.
        """
        name = spec.workspace.secret if isinstance(spec.workspace, GitSource) else None
        if name is None:
            return []
        reply = await self._prefect.ask("GET", _DOCUMENT.format(name=name))
        if reply.status_code != 404:
            read(reply)
            return []
        message = f"No access is saved as {name!r}; save it with `flowforge repo add {name}`."
        return [Problem(field="workspace.secret", message=message)]
