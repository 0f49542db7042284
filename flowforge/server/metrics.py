"""What Prometheus reads on the metrics port.

Routes are labelled with the template that matched (`/api/flow_runs/{id}`), so an id or a name
never becomes a series of its own.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    exposition,
    generate_latest,
)
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flowforge.rules.standing import Known
from flowforge.server.guard import Refusal
from flowforge.server.protection import Protection

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Meters:
    """Every metric of one server process."""

    def __init__(self, *, version: str, prefect: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.requests = Histogram(
            "http_request_duration_seconds",
            "Time to answer a request",
            ("method", "route", "status"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.jobs = Counter(
            "flowforge_jobs_processed",
            "Flow runs that ended, as seen by this process",
            ("flow", "deployment", "work_pool", "state"),
            registry=self.registry,
        )
        self.refused = Counter(
            "flowforge_requests_refused",
            "Requests and websockets of foreign hosts or origins",
            ("status",),
            registry=self.registry,
        )
        build = Gauge(
            "flowforge_build_info",
            "1; the versions are the labels",
            ("version", "prefect", "python"),
            registry=self.registry,
        )
        build.labels(version, prefect, platform.python_version()).set(1)

    def note_refusal(self, refused: Refusal) -> None:
        """Count a request of a foreign host or origin."""
        self.refused.labels(str(refused.status)).inc()

    def watch_readiness(self, is_ready: Callable[[], bool]) -> None:
        """Show whether the server takes writes."""
        gauge = Gauge("flowforge_ready", "1 when writes succeed", registry=self.registry)
        gauge.set_function(lambda: float(is_ready()))

    def watch_copies(self, known: Callable[[], Known]) -> None:
        """Show how old and how far proven copies are, and how long bringing them back takes."""
        self.registry.register(Protection(known))

    def expose(self) -> tuple[bytes, str]:
        """The metrics as text, and that text's content type."""
        return generate_latest(self.registry), exposition.CONTENT_TYPE_LATEST


class Timed:
    """Times every request of the application behind it."""

    def __init__(self, app: ASGIApp, meters: Meters) -> None:
        self.app = app
        self.meters = meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and take its time."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        started = time.perf_counter()
        try:
            await self.app(scope, receive, note_status)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self.meters.requests.labels(method, route_of(scope), str(status)).observe(
                time.perf_counter() - started
            )


def route_of(scope: Scope) -> str:
    """The template of the route that answered, for example `/api/flow_runs/{id}`."""
    template = getattr(scope.get("route"), "path_format", None)
    if isinstance(template, str):
        return str(scope.get("root_path", "")) + template
    path = scope["path"]
    for prefix in ("/api", "/ff"):
        if path == prefix or path.startswith(f"{prefix}/"):
            return f"{prefix}/unknown"
    return "ui"
