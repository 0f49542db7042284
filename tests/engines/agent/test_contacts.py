"""Which hosts a job's commands reached, or were kept from, is told to who follows it."""

from __future__ import annotations

from flowforge.engines.sandboxes.contacts import MOST, OTHERS, Contacts
from flowforge.engines.sandboxes.inside.links import PROXY_PORT
from flowforge.engines.sandboxes.local import LocalProvider
from flowforge.engines.sandboxes.proxy import Attempt
from tests.engines.agent.stage import Stage, on_stage

ASK = f"""python3 - <<'END'
import socket
for _ in range(2):
    proxy = socket.create_connection(("127.0.0.1", {PROXY_PORT}))
    proxy.sendall(b"CONNECT evil.example:443 HTTP/1.1\\r\\n\\r\\n")
    print(proxy.recv(100).split()[1])
    proxy.close()
END"""


def tried(host: str, refusal: str | None = None) -> Attempt:
    return Attempt(host, 443, refusal, sent_bytes=10, received_bytes=20, seconds=0.1)


def test_a_host_that_a_job_was_kept_from_is_an_event_of_it(
    journal_url: str, local: LocalProvider
) -> None:
    async def story(stage: Stage) -> None:
        job = await stage.submit(
            {"tools": [{"bash": ASK}]}, {"text": "Done."}, sandbox={"egress": ["lib.example"]}
        )
        assert (await stage.work(job)).state == "succeeded"
        told = [event.data for event in await stage.events(job, "egress")]
        assert {one["host"] for one in told} == {"evil.example:443"}
        assert sum(one["times"] for one in told) == 2
        assert all("not among the hosts of this job" in one["refusal"] for one in told)

    on_stage(journal_url, story, provider=local)


def test_connections_to_a_host_that_came_out_the_same_are_told_as_one() -> None:
    contacts = Contacts()
    for attempt in (tried("a.example"), tried("a.example"), tried("a.example", "too much")):
        contacts.add(attempt)
    once, refused = contacts.take()
    assert (once.host, once.times, once.sent_bytes, once.received_bytes) == (
        "a.example:443",
        2,
        20,
        40,
    )
    assert (refused.times, refused.refusal) == (1, "too much")
    assert contacts.take() == []


def test_a_command_that_names_very_many_hosts_fills_nothing() -> None:
    contacts = Contacts()
    for number in range(MOST * 3):
        contacts.add(tried(f"{number}.example" + "x" * 10_000, "no"))
    found = contacts.take()
    assert len(found) == MOST + 1
    assert (found[-1].host, found[-1].times) == (OTHERS, MOST * 2)
    assert max(len(one.host) for one in found) < 250
