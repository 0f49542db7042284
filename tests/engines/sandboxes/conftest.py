"""Every kind of sandbox there is here; the same tests for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from flowforge.engines.sandboxes.local import LocalProvider
from flowforge.engines.sandboxes.sandbox import Provider
from tests.engines.sandboxes.box import SMALL, Box


@pytest.fixture(scope="session")
def local() -> Provider:
    return _usable(LocalProvider())


@pytest.fixture(params=["local"])
def provider(request: pytest.FixtureRequest) -> Provider:
    made: Provider = request.getfixturevalue(request.param)
    return made


def _usable(provider: Provider) -> Provider:
    if (why := provider.why_not()) is not None:
        pytest.skip(str(why))
    return provider


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def box(runner: asyncio.Runner, provider: Provider) -> Iterator[Box]:
    sandbox = runner.run(provider.open("a-job", 1, SMALL))
    yield Box(runner, provider, sandbox)
    runner.run(sandbox.close())
