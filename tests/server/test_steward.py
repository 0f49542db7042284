from __future__ import annotations

import asyncio
import hashlib
import hmac
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.responses import Response

from flowforge.errors import Refused
from flowforge.ledger.journal import jobs, leases
from flowforge.ledger.journal.connection import run
from flowforge.ledger.journal.leading import candidate
from flowforge.ledger.journal.news import News
from flowforge.rules.jobs import webhooks
from flowforge.server.answers import create_app
from flowforge.server.flow_runs import DEPLOYMENT, PrefectRuns
from flowforge.server.in_process import InProcess
from flowforge.server.journal import Journal
from tests.server.attempts import attempt, on, work
from tests.server.conftest import SECRET
from tests.server.running import Running, wait_for
from tests.server.test_jobs import SPEC, a_job, ask, database, problem, tell

WORKER = """
import asyncio, sys
from flowforge.ledger.journal import leases
from flowforge.ledger.journal.connection import open_engine
from flowforge.ledger.journal.presence import presence

async def work():
    engine = open_engine(sys.argv[1])
    async with presence(engine) as here:
        lease = await here.claim(sys.argv[2], "doomed")
        await leases.note(engine, lease, flow_run_id=sys.argv[3])
        print("claimed", flush=True)
        await asyncio.Event().wait()

asyncio.run(work())
"""


@pytest.fixture(scope="module")
def platform(server: Running) -> Running:
    """The server with the deployment of agent jobs, and no worker."""
    flow, _, name = DEPLOYMENT.partition("/")
    pool = {"name": "workers", "type": "process", "base_job_template": {}}
    assert server.post("/work_pools/", pool).status_code == 201
    made = {"name": name, "flow_id": server.post("/flows/", {"name": flow}).json()["id"]}
    answer = server.post("/deployments/", {**made, "work_pool_name": "workers"})
    assert answer.status_code == 201, answer.text
    return server


def runs_of(server: Running, job: str) -> list[dict[str, Any]]:
    found = server.post("/flow_runs/filter", {"sort": "EXPECTED_START_TIME_ASC"}).json()
    return [one for one in found if one["parameters"] == {"job": job}]


def wait_for_run(server: Running, job: str) -> dict[str, Any]:
    wait_for(lambda: bool(runs_of(server, job)), 10, f"a run of {job}")
    (found,) = runs_of(server, job)
    return found


def test_a_submitted_job_gets_a_run_in_the_queue_of_its_priority(platform: Running) -> None:
    job = a_job(platform, priority=5)
    started = time.monotonic()
    found = wait_for_run(platform, job)
    assert time.monotonic() - started < 5
    assert found["work_queue_name"] == "urgent"
    assert found["idempotency_key"] == f"{job}:0"
    assert found["state"]["type"] == "SCHEDULED"


def test_a_worker_killed_with_kill_9_is_noticed_within_five_seconds(platform: Running) -> None:
    job = a_job(platform)
    run_id = wait_for_run(platform, job)["id"]
    set_state(platform, run_id, "RUNNING")
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, database(platform), job, run_id], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"claimed\n"

    def old_enough() -> bool:
        asked = sa.text("SELECT now() - pg_postmaster_start_time() > interval '30 s' AS old")
        return bool(on(database(platform), lambda engine: run(engine, asked))[0]["old"])

    wait_for(old_enough, 40, "PostgreSQL running for half a minute")
    os.kill(process.pid, signal.SIGKILL)
    killed = time.monotonic()
    process.communicate()
    wait_for(lambda: len(runs_of(platform, job)) == 2, 10, "another run")
    assert time.monotonic() - killed < 5
    dead, new = runs_of(platform, job)
    assert (dead["state"]["type"], new["state"]["type"]) == ("CRASHED", "SCHEDULED")
    assert ask(platform, job).json()["job"]["reason"] == "its worker was gone"


def set_state(server: Running, run_id: str, kind: str) -> None:
    body = {"state": {"type": kind}, "force": True}
    assert server.post(f"/flow_runs/{run_id}/set_state", body).status_code in (200, 201)


def test_the_run_of_an_attempt_that_does_not_hear_a_cancellation_is_cancelled(
    platform: Running,
) -> None:
    job = a_job(platform)
    run_id = wait_for_run(platform, job)["id"]
    set_state(platform, run_id, "RUNNING")

    async def story(engine: AsyncEngine) -> None:
        async with attempt(engine, job) as lease:
            await leases.note(engine, lease, flow_run_id=run_id)
            await jobs.request_cancel(engine, job, "ann")
            early = "cancel_requested_at = now() - interval '11 s' WHERE id = :job"
            await run(engine, sa.text(f"UPDATE flowforge.jobs SET {early}"), {"job": job})
            for _ in range(100):
                (found,) = runs_of(platform, job)
                if found["state"]["type"] == "CANCELLING":
                    return
                time.sleep(0.1)
            pytest.fail("the run was not cancelled")

    on(database(platform), story)
    wait_for(lambda: ask(platform, job).json()["job"]["state"] == "cancelled", 40, "its end")


def test_without_the_deployment_the_way_out_is_said() -> None:
    async def start() -> None:
        api = InProcess(Response("{}", 404))
        with pytest.raises(Refused, match="flowforge deploy"):
            await PrefectRuns(api).start("job", "job:0", "default")
        await api.close()

    asyncio.run(start())


@contextmanager
def receiver(statuses: list[int]) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Something that is told of ends, and answers with these statuses one after the other."""
    heard: list[tuple[str, bytes]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            heard.append((self.headers[webhooks.SIGNATURE], body))
            self.send_response(statuses.pop(0))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_address[1]}/told", heard
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def test_who_asked_is_told_of_the_end_signed_and_again_until_it_is_heard(
    platform: Running,
) -> None:
    with receiver([500, 204]) as (url, heard):
        job = a_job(platform, callback=url)
        on(database(platform), lambda engine: work(engine, job, "max_turns"))
        wait_for(lambda: len(heard) == 1, 10, "a first try")
        wait_for(lambda: f"{job}: its callback" in platform.log.read_text(), 5, "the warning")
        soon = "UPDATE flowforge.jobs SET callback_at = now() WHERE id = :job"
        on(database(platform), lambda engine: run(engine, sa.text(soon), {"job": job}))
        wait_for(lambda: len(heard) == 2, 10, "a second try")
    signature, body = heard[1]
    stamp, _, code = signature.partition(",")
    signed = f"{stamp.removeprefix('t=')}.".encode() + body
    assert code == "v1=" + hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    told = json.loads(body)
    assert told["event"] == "job.ended"
    assert (told["job"]["id"], told["job"]["state"]) == (job, "max_turns")
    assert told["job"]["result"]["text"] == "It is done."
    assert b"Do it." not in body
    wait_for(lambda: ask(platform, job).json()["job"]["callback"] == "told", 5, "the note of it")


def test_a_callback_that_leads_to_a_metadata_address_is_not_told(platform: Running) -> None:
    job = a_job(platform, callback="http://169.254.169.254/latest")
    tell(platform, f"{job}/cancel")
    said = "only the machine itself may reach"
    wait_for(lambda: said in platform.log.read_text(), 10, "the warning")
    assert ask(platform, job).json()["job"]["callback"] == "due"


def test_of_two_servers_one_leads_and_the_other_follows_it(platform: Running) -> None:
    async def story(engine: AsyncEngine) -> None:
        async with candidate(engine, "role") as first, candidate(engine, "role") as second:
            assert await first.leads()
            assert not await second.leads()
            assert await first.leads()
            await first.resign()
            async with asyncio.timeout(10):
                while not await second.leads():
                    await asyncio.sleep(0.05)

    on(database(platform), story)


def test_a_callback_is_refused_where_nothing_could_sign_it(server: Running) -> None:
    async def story(engine: AsyncEngine) -> None:
        opened = Journal(engine, News(), takes_callbacks=False)
        app = create_app(None, opened, version="1", prefect="3", is_ready=lambda: True)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://here"
        ) as client:
            spec = SPEC | {"callback": "https://example.com/"}
            told = problem(await client.post("/jobs", json=spec), 422)
            assert "FLOWFORGE_WEBHOOK_SECRET" in told["detail"]

    on(database(server), story)
