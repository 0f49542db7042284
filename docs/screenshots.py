"""Take the pictures in docs/images from a running platform, with the Chromium that is installed.

Run by `make docs`. The pictures show real runs of this machine, so they change when it does.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import httpx
from playwright.sync_api import Page, sync_playwright

from flowforge import client

IMAGES = Path(__file__).parent / "images"
VIEW = {"width": 1400, "height": 900}
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def newest(api: str, what: str, query: dict[str, object]) -> dict[str, str]:
    """The first entry of a list of the API."""
    found = httpx.post(f"{api}/{what}/filter", json={"limit": 1, **query}, timeout=30)
    found.raise_for_status()
    entries = found.json()
    if not entries:
        sys.exit(f"There is no {what} to take a picture of: run `make up` first.")
    return dict(entries[0])


def take(page: Page, address: str, name: str, wait_for: str) -> None:
    """Open an address, wait for a text on it, and keep a picture."""
    page.goto(address)
    page.get_by_text(wait_for).first.wait_for(timeout=30_000)
    page.wait_for_load_state("networkidle")
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
    run = newest(api, "flow_runs", {**runs, **backup, **done})
    report = newest(
        api, "artifacts", {"sort": "CREATED_DESC", "artifacts": {"type": {"any_": ["markdown"]}}}
    )
    deployment = newest(api, "deployments", {**backup})
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(QUIET))
        page = browser.new_page(viewport=VIEW)  # type: ignore[arg-type]
        take(page, f"{ui}/runs", "runs", run["name"])
        take(page, f"{ui}/runs/flow-run/{run['id']}", "backup-run", "Completed")
        take(page, f"{ui}/artifacts/artifact/{report['id']}", "report", "RPO")
        take(page, f"{ui}/deployments/deployment/{deployment['id']}", "deployment", "schedule")
        take(page, f"{ui}/deployments/deployment/{deployment['id']}/run", "form", "server")
        browser.close()


if __name__ == "__main__":
    main()
