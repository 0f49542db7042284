"""These tests talk to the session's Prefect server, each beginning with no deployment on it."""

from __future__ import annotations

import httpx
import pytest

from tests.prefect_server import prefect_url

__all__ = ["prefect_url"]


@pytest.fixture(autouse=True)
def no_deployments(prefect_url: str) -> None:
    for deployment in httpx.post(f"{prefect_url}/deployments/filter", json={}).json():
        httpx.delete(f"{prefect_url}/deployments/{deployment['id']}").raise_for_status()
