"""What can be asked about accounts that are not used for now, for both clients."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, JsonValue

from flowforge.client.answers import read_list, read_value
from flowforge.client.calls import Calls
from flowforge.client.exchange import Exchange, Request, call, not_flowforge
from flowforge.rules.jobs.records import Breaker


class ClosedBreaker(BaseModel):
    """What it meant to close a breaker."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    account: str
    was_open: bool
    jobs: int
    """How many waited for it, and go on."""


@dataclass(frozen=True)
class BreakerCalls:
    """Every question about breakers, as a generator of requests."""

    calls: Calls

    def list_breakers(self) -> Exchange[list[Breaker]]:
        """The breakers that are open."""
        return read_list(Breaker, (yield from self._call("GET", "")), "breakers")

    def close(self, account: str, by: str) -> Exchange[ClosedBreaker]:
        """Use an account again; one that is in use is left as it is."""
        path = f"/{quote(account, safe='')}/close"
        return read_value(ClosedBreaker, (yield from self._call("POST", path, {"by": by})))

    def _call(
        self, method: str, path: str, body: JsonValue = None
    ) -> Exchange[dict[str, JsonValue]]:
        url = f"{self.calls.environment.own_url}/breakers{path}"
        request = Request(method, url, body=body)
        told = yield from call(request, self.calls.patience_seconds)
        if not isinstance(told, dict):
            raise not_flowforge(request)
        return told
