"""One rehearsal model for a module, with nothing left of the test before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from anthropic import Anthropic

from flowforge.twin.model.server import Server
from tests.rehearsal import rehearsing


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with rehearsing() as server:
        yield server


@pytest.fixture
def server(running: Server) -> Server:
    running.state.reset()
    return running


@pytest.fixture(scope="module")
def client(running: Server) -> Iterator[Anthropic]:
    with Anthropic(api_key="any", base_url=running.url, max_retries=0) as opened:
        yield opened
