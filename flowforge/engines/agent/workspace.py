"""The files of a job: brought, given to a sandbox, kept after each turn, and made into a patch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from flowforge.engines.agent import survey
from flowforge.engines.agent.git import Heard
from flowforge.engines.agent.patch import Patch, make_patch
from flowforge.engines.agent.sources import Base, Places, bring
from flowforge.engines.agent.sources_access import Access
from flowforge.engines.agent.trees import Kept, Trees
from flowforge.engines.sandboxes.sandbox import Sandbox
from flowforge.rules.jobs import spec
from flowforge.rules.jobs.instructions import steers_agents

NOT_CARRIED_OVER = (
    "Files are as they were after the last command that is shown. Not carried over: running "
    "processes, exported variables, empty folders, `.git` and everything outside the workspace."
)
"""What the model is told when its job goes on in another sandbox."""


@dataclass(frozen=True)
class Step:
    """The workspace after a turn, and what a later attempt needs to have it again."""

    kept: Kept
    pack: bytes
    """What is new since the step before; empty when nothing has changed."""


class Workspace:
    """The files of one attempt of a job, at home in a folder of the brain."""

    def __init__(self, places: Places, base: Base) -> None:
        self.base = base
        self._places = places
        self._trees = Trees(places, base)
        self._last = Kept(base.shown, base.shown)
        self._is_last = True

    @classmethod
    async def bring(
        cls,
        wanted: spec.Workspace,
        folder: Path,
        *,
        access: Access | None = None,
        commit: str | None = None,
        heard: Heard | None = None,
    ) -> Workspace:
        """Bring the files a job begins with; see `sources.bring`."""
        return cls(*await bring(wanted, folder, access=access, commit=commit, heard=heard))

    async def go_on(self, tree: str, packs: Iterable[bytes]) -> None:
        """Have the files again as an earlier attempt left them.

        Args:
            tree: The tree of its last step.
            packs: The packs of all its steps, the oldest first.

        Raises:
            Damaged: A pack is missing or not whole.
        """
        for pack in packs:
            await self._trees.import_pack(pack)
        await self._trees.restore(tree)
        self._last = await self._trees.keep()

    async def instructions(self) -> tuple[str, ...]:
        """Files the job began with that are written to steer agents; nobody checked them."""
        found = await asyncio.to_thread(survey.names, self._places.files)
        return tuple(path for path in found if steers_agents(path))

    async def give(self, sandbox: Sandbox) -> None:
        """Put the files into a new sandbox, as they were kept last."""
        if not self._is_last:  # a sandbox was lost while its files were brought
            await self._trees.restore(self._last.tree)
            self._is_last = True
        await sandbox.push(self._places.files)
        await self._trees.remember(self._last)

    async def keep(self, sandbox: Sandbox) -> Step:
        """Keep the files as a turn left them in the sandbox.

        Raises:
            SandboxLost: The sandbox is gone; what was kept before still is.
            Refused: More has changed than can be kept.
        """
        self._is_last = False
        await sandbox.pull(self._places.files)
        kept = await self._trees.keep()
        pack = await self._trees.export_pack(self._last.tree, kept.tree)
        self._last, self._is_last = kept, True
        return Step(kept, pack)

    async def patch(self) -> Patch:
        """The patch to the files as they were kept last."""
        return await make_patch(self._places, self.base, self._last)
