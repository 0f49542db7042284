"""`/ff/v1/breakers`: which accounts are not used for now, and how one is used again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Annotated
from urllib.parse import unquote

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from flowforge.ledger.journal import breakers
from flowforge.server.journal import Journal

log = logging.getLogger("flowforge.jobs")


class CloseBody(BaseModel):
    """Who says that an account may be used again."""

    model_config = ConfigDict(extra="forbid")

    by: Annotated[str, Field(min_length=1, max_length=200)] = "somebody over HTTP"


def add_routes(app: FastAPI, journal: Callable[[], Journal]) -> None:
    """Add the routes of breakers to the application."""

    @app.get("/breakers")
    async def list_breakers() -> JSONResponse:
        found = await breakers.list_breakers(journal().engine)
        told = [one.model_dump(mode="json") for one in found]
        return JSONResponse({"schema": 1, "breakers": told})

    @app.post("/breakers/{account}/close")
    async def close(account: str, body: CloseBody | None = None) -> JSONResponse:
        name = unquote(account)
        closed = await breakers.close_breaker(journal().engine, name)
        if closed.was_open:
            by = (body or CloseBody()).by
            log.info("%r: its breaker was closed by %r; %d jobs go on", name, by, closed.jobs)
        return JSONResponse({"schema": 1, "account": name, **closed.model_dump()})
