"""What the client can ask, written once for the blocking and the asynchronous driver."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from pydantic import JsonValue

from flowforge.client.address import Environment
from flowforge.client.answers import (
    CopyWithProofs,
    PoolStatus,
    Readiness,
    Status,
    read_list,
    read_value,
)
from flowforge.client.exchange import (
    PATIENCE_SECONDS,
    Exchange,
    Lost,
    Pause,
    Reply,
    Request,
    ask,
    call,
    explain,
    not_flowforge,
)
from flowforge.client.parameters import check_names, check_parameters, schema_hint
from flowforge.client.runs import RunFacts, Step, failure_of, read_run, read_steps
from flowforge.errors import Refused, Unavailable
from flowforge.rules.backups import Copy, Operation, Proof

RESTORE = "restore-postgres/on-demand"
_FIRST_LOOK_SECONDS = 0.3
_LONGEST_LOOK_SECONDS = 2.0
_RECORD_DEADLINE_SECONDS = 10.0
_OWN_POOLS = "flowforge-"


@dataclass(frozen=True)
class Calls:
    """Every question, as a generator of requests."""

    environment: Environment
    patience_seconds: float = PATIENCE_SECONDS

    def submit(
        self, deployment: str, parameters: Mapping[str, object], idempotency_key: str | None
    ) -> Exchange[RunFacts]:
        """Start a run of a deployment, once, however often the request has to be repeated."""
        plain = check_parameters(parameters)
        known = yield from self._deployment(deployment)
        check_names(deployment, plain, known)
        body: JsonValue = {
            "parameters": plain,
            "idempotency_key": idempotency_key or str(uuid.uuid4()),
            "enforce_parameter_schema": True,
        }
        request = self.prefect("POST", f"deployments/{known['id']}/create_flow_run", body)
        reply = yield from ask(request, self.patience_seconds)
        if reply.status in (409, 422):
            detail = reply.body.get("detail") if isinstance(reply.body, dict) else None
            raise Refused(
                f"{deployment} does not take these parameters: {detail}", hint=schema_hint(known)
            )
        if not reply.is_ok:
            raise explain(reply, request)
        return self._read(reply.body)

    def read_run(self, flow_run_id: str) -> Exchange[RunFacts]:
        """Look at a run."""
        request = self.prefect("GET", f"flow_runs/{_part(flow_run_id)}")
        reply = yield from ask(request)
        if reply.status in (404, 422):
            raise Refused(
                f"There is no run {flow_run_id!r}.", hint="The UI lists the runs there are."
            )
        if not reply.is_ok:
            raise explain(reply, request)
        return self._read(reply.body)

    def steps(self, flow_run_id: str) -> Exchange[list[Step]]:
        """List a run's steps so far."""
        body: JsonValue = {"flow_runs": {"id": {"any_": [flow_run_id]}}, "limit": 200}
        return read_steps((yield from call(self.prefect("POST", "task_runs/filter", body))))

    def wait(
        self,
        run: RunFacts,
        timeout_seconds: float | None,
        on_look: Callable[[RunFacts, list[Step]], None] | None,
    ) -> Exchange[RunFacts]:
        """Look again until the run has ended."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        pause_seconds = _FIRST_LOOK_SECONDS
        while not run.is_finished:
            left = pause_seconds if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise Unavailable(
                    f"{run.name} is still {run.state} after {timeout_seconds:g} s.",
                    hint=f"It goes on without you; follow it at {run.url}",
                    flow_run_id=run.id,
                )
            yield Pause(min(pause_seconds, left))
            pause_seconds = min(pause_seconds * 1.3, _LONGEST_LOOK_SECONDS)
            run = yield from self.read_run(run.id)
            if on_look is not None:
                on_look(run, (yield from self.steps(run.id)))
        return run

    def result(self, run: RunFacts) -> Exchange[Operation]:
        """Return what a finished run recorded, or raise what it failed with."""
        if run.state_type != "COMPLETED":
            # The run says why it failed; the ledger is asked once and may be down as well.
            reply = yield self._record_of(run.id)
            raise failure_of(run, _operation(reply))
        deadline = time.monotonic() + _RECORD_DEADLINE_SECONDS
        while (operation := (yield from self._recorded(run.id))) is None:
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"{run.name} completed, but the ledger holds no record of it.",
                    hint=f"Read what it did at {run.url}",
                    flow_run_id=run.id,
                )
            yield Pause(_FIRST_LOOK_SECONDS)
        return operation

    def status(self) -> Exchange[Status]:
        """Ask how the platform is."""
        body = yield from self._own("status")
        return read_value(Status, body)

    def readiness(self) -> Exchange[Readiness]:
        """Ask whether the server takes writes; a 503 of its own is an answer, not an outage."""
        request = Request("GET", f"{self.environment.root_url}/ready")
        said = _readiness((yield request))
        if said is None:  # a proxy answered, or nobody
            reply = yield from ask(request, self.patience_seconds)
            said = _readiness(reply)
            if said is None:
                raise not_flowforge(request) if reply.is_ok else explain(reply, request)
        return said

    def pools(self) -> Exchange[list[PoolStatus]]:
        """List FlowForge's own work pools and how many workers each has."""
        found = yield from call(
            self.prefect("POST", "work_pools/filter", {"limit": 200}), self.patience_seconds
        )
        pools = []
        for row in _rows(found):
            if (name := str(row["name"])).startswith(_OWN_POOLS):
                asked = self.prefect("POST", f"work_pools/{_part(name)}/workers/filter", {})
                workers = _rows((yield from call(asked, self.patience_seconds)))
                online = sum(worker["status"] == "ONLINE" for worker in workers)
                pools.append(read_value(PoolStatus, {**row, "workers_online": online}))
        return sorted(pools, key=lambda pool: pool.name)

    def copies(self, server: str | None, database: str | None) -> Exchange[list[Copy]]:
        """List copies, newest first."""
        query = {"server": server, "database": database}
        body = yield from self._own("copies", {k: v for k, v in query.items() if v is not None})
        return read_list(Copy, body, "copies")

    def copy(self, server: str, database: str, name: str) -> Exchange[CopyWithProofs]:
        """Read one copy and its proofs."""
        body = yield from self._own(f"copies/{_part(server)}/{_part(database)}/{_part(name)}")
        return CopyWithProofs(read_value(Copy, body.get("copy")), read_list(Proof, body, "proofs"))

    def operations(self, operation: str | None, limit: int) -> Exchange[list[Operation]]:
        """List finished operations, newest first."""
        query = {"limit": str(limit)} | ({"operation": operation} if operation else {})
        body = yield from self._own("operations", query)
        return read_list(Operation, body, "operations")

    def restore_plan(
        self, server: str, database: str | None, copy: str, target: Mapping[str, str | None]
    ) -> Exchange[dict[str, JsonValue]]:
        """Let a run work out what a restore would do, and return the plan and its hash."""
        asked = {"server": server, "database": database, "copy": copy, **target}
        given = {name: value for name, value in asked.items() if value is not None}
        run = yield from self.submit(RESTORE, {**given, "action": "plan"}, None)
        run = yield from self.wait(run, None, None)
        return (yield from self.result(run)).facts

    def _recorded(self, flow_run_id: str) -> Exchange[Operation | None]:
        request = self._record_of(flow_run_id)
        reply = yield from ask(request)
        if reply.status == 404 and isinstance(reply.body, dict) and "error" in reply.body:
            return None
        if not reply.is_ok:
            raise explain(reply, request)
        if (operation := _operation(reply)) is None:
            raise not_flowforge(request)
        return operation

    def _record_of(self, flow_run_id: str) -> Request:
        return Request("GET", f"{self.environment.own_url}/operations/{_part(flow_run_id)}")

    def _deployment(self, deployment: str) -> Exchange[dict[str, JsonValue]]:
        flow, slash, name = deployment.partition("/")
        if flow and slash and name:
            request = self.prefect("GET", f"deployments/name/{_part(flow)}/{_part(name)}")
            reply = yield from ask(request, self.patience_seconds)
            if reply.is_ok and isinstance(reply.body, dict):
                return reply.body
            if reply.status != 404:
                raise explain(reply, request) if not reply.is_ok else not_flowforge(request)
        known = yield from self._deployment_names()
        raise Refused(
            f"There is no deployment {deployment!r}.",
            hint=f"Known are: {', '.join(known)}."
            if known
            else "None is deployed yet; run `flowforge deploy`.",
        )

    def _deployment_names(self) -> Exchange[list[str]]:
        flows = yield from call(
            self.prefect("POST", "flows/filter", {"limit": 200}), self.patience_seconds
        )
        found = yield from call(
            self.prefect("POST", "deployments/filter", {"limit": 200}), self.patience_seconds
        )
        flow_names = {row["id"]: row["name"] for row in _rows(flows)}
        return sorted(f"{flow_names.get(row['flow_id'])}/{row['name']}" for row in _rows(found))

    def _own(
        self, path: str, query: Mapping[str, str] | None = None
    ) -> Exchange[dict[str, JsonValue]]:
        request = Request("GET", f"{self.environment.own_url}/{path}", query or {})
        body = yield from call(request, self.patience_seconds)
        if not isinstance(body, dict):
            raise not_flowforge(request)
        return body

    def prefect(self, method: str, path: str, body: JsonValue = None) -> Request:
        """A request to Prefect's own API."""
        return Request(method, f"{self.environment.api_url}/{path}", {}, body)

    def _read(self, body: JsonValue) -> RunFacts:
        assert isinstance(body, dict)
        return read_run(body, self.environment.run_url(str(body["id"])))


def _readiness(reply: Reply | Lost | None) -> Readiness | None:
    """What the server itself said, or `None` when another one answered, or nobody."""
    body = reply.body if isinstance(reply, Reply) else None
    return read_value(Readiness, body) if isinstance(body, dict) and "ready" in body else None


def _operation(reply: Reply | Lost | None) -> Operation | None:
    body = reply.body if isinstance(reply, Reply) else None
    found = body.get("operation") if isinstance(body, dict) else None
    return None if found is None else read_value(Operation, found)


def _rows(body: JsonValue) -> list[dict[str, JsonValue]]:
    return [row for row in body if isinstance(row, dict)] if isinstance(body, list) else []


def _part(text: str) -> str:
    return quote(text, safe="")
