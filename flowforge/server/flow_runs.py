"""Flow runs of agent jobs, started and ended through Prefect's application in this very process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import httpx
from starlette.types import ASGIApp

from flowforge.engines.agent.stewarding import How, Run
from flowforge.errors import Refused, Unavailable

DEPLOYMENT = "run-agent-job/on-demand"
_OVER = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})
_STATES: Mapping[How, str] = {
    "cancelling": "CANCELLING",
    "cancelled": "CANCELLED",
    "crashed": "CRASHED",
}
_PAGE = 200
_TIMEOUT_SECONDS = 30.0


class PrefectRuns:
    """Prefect's flow runs, as the steward of jobs wants them.

    Args:
        application: Prefect's.
        auth_string: `user:password` its API demands.
    """

    def __init__(self, application: ASGIApp, auth_string: str | None = None) -> None:
        user, _, password = (auth_string or "").partition(":")
        self._client = httpx.AsyncClient(
            transport=httpx.ASGITransport(application, raise_app_exceptions=False),
            base_url="http://prefect/api",
            auth=(user, password) if auth_string else None,
            timeout=_TIMEOUT_SECONDS,
        )
        self._deployment: str | None = None

    async def close(self) -> None:
        """Give back what it holds."""
        await self._client.aclose()

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
        reply = await self._ask("POST", f"/deployments/{deployment}/create_flow_run", body)
        if reply.status_code == 404:  # deleted, and perhaps made again under another id
            self._deployment = None
        return _run(_read(reply))

    async def look(self, ids: Iterable[str]) -> Mapping[str, Run]:
        """How runs stand, by their ids; those that do not exist are left out."""
        wanted, found = sorted(set(ids)), {}
        for start in range(0, len(wanted), _PAGE):
            asked = {"id": {"any_": wanted[start : start + _PAGE]}}
            body = {"flow_runs": asked, "limit": _PAGE}
            for row in _read(await self._ask("POST", "/flow_runs/filter", body)):
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
        _read(await self._ask("POST", f"/flow_runs/{run_id}/set_state", body))

    async def _find_deployment(self) -> str:
        flow, _, name = DEPLOYMENT.partition("/")
        reply = await self._ask("GET", f"/deployments/name/{quote(flow)}/{quote(name)}")
        if reply.status_code == 404:
            raise Refused(
                f"There is no deployment {DEPLOYMENT}: agent jobs stay in the queue.",
                hint="Run `flowforge deploy`.",
            )
        self._deployment = str(_read(reply)["id"])
        return self._deployment

    async def _ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        try:
            return await self._client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise Unavailable(
                f"Prefect did not answer to {method} {path}: {type(error).__name__}.",
                hint="Look at the server's log; it is tried again by itself.",
            ) from error


def _read(reply: httpx.Response) -> Any:
    if not reply.is_success:
        kind = Refused if 400 <= reply.status_code < 500 else Unavailable
        raise kind(
            f"Prefect answered {reply.status_code} to {reply.request.url.path}: {reply.text[:300]}",
            hint="Run `flowforge deploy`, and look at the server's log.",
        )
    return reply.json()


def _run(row: Mapping[str, Any]) -> Run:
    kind = (row.get("state") or {}).get("type")
    return Run(id=str(row["id"]), is_over=kind in _OVER, is_paused=kind == "PAUSED")
