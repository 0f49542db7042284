"""Take the pictures in docs/images from a running platform, with the Chromium that is installed.

Run by `make docs`. The pictures show real runs of this machine, so they change when it does.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page, sync_playwright

from flowforge import client

IMAGES = Path(__file__).parent / "images"
WIDTH, HEIGHT, TALLEST = 1600, 900, 2400
# The page itself never scrolls; what scrolls is inside it.
_WHOLE = "Math.max(...[...document.querySelectorAll('*')].map(e => e.scrollHeight))"
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find(api: str, what: str, query: dict[str, object]) -> list[dict[str, Any]]:
    """A list of the API, which must not be empty."""
    found = httpx.post(f"{api}/{what}/filter", json={"limit": 50, **query}, timeout=30)
    entries: list[dict[str, Any]] = found.raise_for_status().json()
    if not entries:
        sys.exit(f"There is no {what} to take a picture of: run `make up` first.")
    return entries


def take(page: Page, address: str, name: str, wait_for: str, *, whole: bool = False) -> None:
    """Open an address, wait for a text on it, and keep a picture; of all there is to scroll to."""
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    page.goto(address)
    page.get_by_text(wait_for).first.wait_for(timeout=30_000)
    page.wait_for_load_state("networkidle")
    if whole:
        page.set_viewport_size({"width": WIDTH, "height": min(page.evaluate(_WHOLE), TALLEST)})
    page.screenshot(path=IMAGES / f"{name}.png")
    sys.stdout.write(f"docs/images/{name}.png\n")


def main() -> None:
    """Take every picture."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("No Chromium is installed: apt install chromium")
    api = client.find_environment().api_url
    ui = api.removesuffix("/api")
    runs: dict[str, object] = {"sort": "START_TIME_DESC"}
    backup = {"flows": {"name": {"any_": ["backup-postgres"]}}}
    done = {"flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    backups = find(api, "flow_runs", {**runs, **backup, **done})
    # The shop's tables say more to a reader than Prefect's own.
    run = next((one for one in backups if one["parameters"]["server"] == "shop"), backups[0])
    of_run = {"flow_run_id": {"any_": [run["id"]]}, "type": {"any_": ["markdown"]}}
    report = find(api, "artifacts", {"artifacts": of_run})[0]
    deployment = find(api, "deployments", {**backup})[0]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(QUIET))
        page = browser.new_page()
        take(page, f"{ui}/runs", "runs", run["name"], whole=True)
        take(page, f"{ui}/runs/flow-run/{run['id']}", "backup-run", "Completed")
        take(page, f"{ui}/artifacts/artifact/{report['id']}", "report", "RPO", whole=True)
        take(
            page,
            f"{ui}/deployments/deployment/{deployment['id']}",
            "deployment",
            "schedule",
            whole=True,
        )
        take(
            page,
            f"{ui}/deployments/deployment/{deployment['id']}/run",
            "form",
            "server",
            whole=True,
        )
        browser.close()


if __name__ == "__main__":
    main()
