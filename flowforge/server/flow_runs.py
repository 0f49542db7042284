"""Flow runs of agent jobs, started and ended through Prefect's application in this very process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from flowforge.engines.agent.stewarding import How, Run
from flowforge.errors import Refused
from flowforge.server.in_process import InProcess, read

DEPLOYMENT = "run-agent-job/on-demand"
_OVER = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
_STATES: Mapping[How, str] = {
    "cancelling": "CANCELLING",
    "cancelled": "CANCELLED",
    "crashed": "CRASHED",
}
_PAGE = 200


class PrefectRuns:
    """Prefect's flow runs, as the steward of jobs wants them.

    Args:
        prefect: Prefect's API.
    """

    def __init__(self, prefect: InProcess) -> None:
        self._prefect = prefect
        self._deployment: str | None = None

    async def start(self, job: str, key: str, queue: str) -> Run:
        """Start a run that works on a job; the same key is the same run.

        Raises:
            Refused: The deployment is not there, or does not take the job.
            Unavailable: Prefect did not do it.
        """
        body = {
            "name": key,
            "parameters": {"job": job},
            "idempotency_key": key,
            "work_queue_name": queue,
            "state": {"type": "SCHEDULED"},
        }
        deployment = self._deployment or await self._find_deployment()
        reply = await self._prefect.ask("POST", f"/deployments/{deployment}/create_flow_run", body)
        if reply.status_code == 404:  # deleted, and perhaps made again under another id
            self._deployment = None
        return _run(read(reply))

    async def look(self, ids: Iterable[str]) -> Mapping[str, Run]:
        """How runs stand, by their ids; those that do not exist are left out."""
        wanted, found = sorted(set(ids)), {}
        for start in range(0, len(wanted), _PAGE):
            asked = {"id": {"any_": wanted[start : start + _PAGE]}}
            body = {"flow_runs": asked, "limit": _PAGE}
            for row in read(await self._prefect.ask("POST", "/flow_runs/filter", body)):
                found[str(row["id"])] = _run(row)
        return found

    async def end(self, run_id: str, how: How, why: str) -> None:
        """Bring a run into a state, unless it is over or gone."""
        run = (await self.look([run_id])).get(run_id)
        if run is None or run.is_over:
            return
        # Nobody who runs it is asked any more, once it is known to be dead.
        state = {"type": _STATES[how], "message": why}
        body = {"state": state, "force": how != "cancelling"}
        read(await self._prefect.ask("POST", f"/flow_runs/{run_id}/set_state", body))

    async def _find_deployment(self) -> str:
        flow, _, name = DEPLOYMENT.partition("/")
        reply = await self._prefect.ask("GET", f"/deployments/name/{quote(flow)}/{quote(name)}")
        if reply.status_code == 404:
            raise Refused(
                f"There is no deployment {DEPLOYMENT}: agent jobs stay in the queue.",
                hint="Run `flowforge deploy`.",
            )
        self._deployment = str(read(reply)["id"])
        return self._deployment


def _run(row: Mapping[str, Any]) -> Run:
    kind = (row.get("state") or {}).get("type")
    return Run(id=str(row["id"]), is_over=kind in _OVER, is_paused=kind == "PAUSED")
