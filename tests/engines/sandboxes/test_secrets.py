"""Secrets that hosts are told on the way: they arrive there, and are nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
import ssl
from collections.abc import AsyncIterator, Callable

import pytest
from pydantic import SecretStr

from flowforge.engines.sandboxes.authority import Authority
from flowforge.engines.sandboxes.connections import Streamed
from flowforge.engines.sandboxes.contacts import Contact
from flowforge.engines.sandboxes.echoes import Echoes
from flowforge.engines.sandboxes.proxy import Attempt, Proxy
from flowforge.engines.sandboxes.sandbox import Provider, Sandbox
from flowforge.rules.jobs.egress_secrets import HostSecret
from flowforge.rules.jobs.spec import SandboxChoice
from tests.engines.sandboxes.hosts import ROUTE, contacts_of, routed
from tests.engines.sandboxes.https import Host, https_host

Attempts = list[Attempt]
VALUE = "s3cr3t-of-the-host"
FETCH = """
import http.client, os, ssl, sys
host, port = sys.argv[1].split(":")
there = http.client.HTTPSConnection("127.0.0.1", 3128, timeout=20)
there.set_tunnel(host, int(port))
for body in (None, b"one", iter([b"two", b"three"])):
    there.request("POST" if body else "GET", "/path?a=b", body, {"Authorization": "mine"})
    answer = there.getresponse()
    print(answer.status, answer.read().decode())
"""
SEARCH = (
    "env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline;"
    " find /tmp /dev/shm /workspace /etc /run -type f -exec cat {} +; true"
)


def secret(port: int, **changes: str) -> HostSecret:
    fields = {
        "name": "the-token",
        "host": f"host.test:{port}",
        "header": "Authorization",
        "format": "Bearer {secret}",
    } | changes
    return HostSecret(**fields, value=SecretStr(VALUE))


@contextlib.asynccontextmanager
async def opened(provider: Provider, host: Host, *more_hosts: str) -> AsyncIterator[Sandbox]:
    route = dataclasses.replace(ROUTE, trust=host.trusted)
    choice = SandboxChoice(
        memory_mb=256, disk_mb=64, egress=(f"host.test:{host.port}", *more_hosts)
    )
    sandbox = await routed(provider, route).open("a-job", 1, choice, [secret(host.port)])
    try:
        yield sandbox
    finally:
        await sandbox.close()


def test_a_host_is_told_its_secret_and_the_sandbox_never_holds_it(provider: Provider) -> None:
    async def work() -> tuple[Host, str, bytes]:
        async with https_host("host.test") as host, opened(provider, host) as sandbox:
            await sandbox.write_file("fetch.py", FETCH.encode())
            argv = ["python3", "fetch.py", f"host.test:{host.port}"]
            fetched = await sandbox.exec(argv, timeout_seconds=30)
            with io.BytesIO() as seen:
                await sandbox.exec(["sh", "-c", SEARCH], timeout_seconds=30, spool=seen)
                return host, fetched.head.decode(), seen.getvalue()

    host, fetched, seen = asyncio.run(work())
    assert [one.line for one in host.asked] == ["GET /path?a=b", "POST /path?a=b", "POST /path?a=b"]
    assert [one.all("authorization") for one in host.asked] == [[f"Bearer {VALUE}"]] * 3
    assert [one.body for one in host.asked] == [b"", b"one", b"twothree"]
    assert host.connections == 1
    assert fetched.count("200 ") == 3
    assert "authorization: Bearer " + "*" * len(VALUE) in fetched
    assert b"SSL_CERT_FILE" in seen
    assert VALUE not in fetched
    assert VALUE.encode() not in seen


def test_another_host_is_not_told_and_keeps_its_own_certificate(provider: Provider) -> None:
    """The connection to it is passed on as it is, so nothing can be added."""

    async def work() -> tuple[Host, str, list[Contact]]:
        async with https_host("host.test") as host, https_host("other.test") as other:
            there = f"other.test:{other.port}"
            async with opened(provider, host, there) as sandbox:
                await sandbox.write_file("other.pem", other.authority.certificate.encode())
                await sandbox.write_file("fetch.py", FETCH.encode())
                ran = await sandbox.exec(
                    ["python3", "fetch.py", there],
                    timeout_seconds=30,
                    env={"SSL_CERT_FILE": "/workspace/other.pem"},
                )
                return other, ran.head.decode(), await contacts_of(sandbox, 1)

    other, fetched, contacts = asyncio.run(work())
    assert fetched.count("200 ") == 3
    assert [one.all("authorization") for one in other.asked] == [["mine"]] * 3
    assert [contact.refusal for contact in contacts] == [None]


@contextlib.asynccontextmanager
async def proxied(host: Host, *secrets: HostSecret) -> AsyncIterator[tuple[Proxy, int, Attempts]]:
    """A proxy that listens on this machine, for tests of what it lets through."""
    attempts: Attempts = []
    route = dataclasses.replace(ROUTE, trust=host.trusted)
    secrets = secrets or (secret(host.port),)
    serving = Proxy([f"host.test:{host.port}"], attempts.append, route, secrets=secrets)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Streamed(reader, writer)
        await serving.answer(connection)
        connection.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    yield serving, server.sockets[0].getsockname()[1], attempts
    server.close()


async def ask(host: Host, request: bytes, *secrets: HostSecret) -> tuple[bytes, Attempts]:
    """Say something by TLS to what stands in for a host, and hear all it says."""
    async with proxied(host, *secrets) as (serving, port, attempts):
        assert serving.authority
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"CONNECT host.test:%d HTTP/1.1\r\n\r\n" % host.port)
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head:
            said = await reader.read()
        else:
            trust = ssl.create_default_context(cadata=serving.authority.certificate)
            trust.verify_flags |= ssl.VERIFY_X509_STRICT
            await writer.start_tls(trust, server_hostname="host.test")
            writer.write(request.replace(b"HOST", b"host.test:%d" % host.port))
            said = await reader.read()
        writer.close()
        await until(lambda: bool(attempts))
        return said, attempts


async def until(happens: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not happens():
            await asyncio.sleep(0.01)


GET = b"GET / HTTP/1.1\r\nHost: HOST\r\n"
POST = b"POST / HTTP/1.1\r\nHost: HOST\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status", "why"),
    [
        (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400, "not HTTP/1.1"),
        (POST + b"Content-Length: 5\r\n" + CHUNKED + b"\r\n0\r\n\r\n", 400, "in two ways"),
        (POST + b"Transfer-Encoding: gzip\r\n\r\n", 400, "not HTTP/1.1"),
        (POST + b"Content-Length : 5\r\n\r\nhello", 400, "not HTTP/1.1"),
        (POST + CHUNKED + b"\r\nno size\r\n", 400, "not HTTP/1.1"),
        (b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n", 421, "another host"),
        (GET + b"Host: evil.test\r\n\r\n", 400, "not HTTP/1.1"),
        (b"GET / HTTP/1.0\r\n\r\n", 421, "another host"),
        (b"GET https://evil.test/ HTTP/1.1\r\nHost: HOST\r\n\r\n", 400, "not for this host"),
        (b"CONNECT evil.test:443 HTTP/1.1\r\nHost: HOST\r\n\r\n", 400, "not for this host"),
        (GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 501, "another protocol"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 421, "another host"),
        (GET + b"X: " + b"x" * 200_000 + b"\r\n\r\n", 400, "not HTTP/1.1"),
    ],
    ids=lambda value: None if isinstance(value, int) else str(value)[:60],
)
def test_what_could_be_understood_in_two_ways_is_refused_and_told(
    request_bytes: bytes, status: int, why: str
) -> None:
    async def work() -> tuple[bytes, Attempts, Host]:
        async with https_host("host.test") as host:
            return *await ask(host, request_bytes), host

    said, attempts, host = asyncio.run(work())
    assert said.startswith(b"HTTP/1.1 %d " % status)
    assert [why in (attempt.refusal or "") for attempt in attempts] == [True]
    assert host.asked == []


def test_headers_that_would_hide_the_secret_or_its_echo_are_replaced() -> None:
    hiding = (
        b"AUTHORIZATION: mine\r\nauthorization: mine too\r\nConnection: close, authorization\r\n"
        b"Accept-Encoding: gzip\r\nTE: trailers\r\n" + CHUNKED
    )
    body = b"3\r\nabc\r\n0\r\nAuthorization: trailing\r\n\r\n"

    async def work() -> tuple[bytes, Host]:
        async with https_host("host.test") as host:
            said, _ = await ask(host, POST + hiding + b"\r\n" + body)
            return said, host

    said, host = asyncio.run(work())
    (asked,) = host.asked
    assert asked.all("authorization") == [f"Bearer {VALUE}"]
    assert asked.all("accept-encoding") == ["identity"]
    assert (asked.all("te"), asked.all("connection"), asked.body) == ([], [], b"abc")
    assert b"connection: close" in said.lower()
    assert VALUE.encode() not in said


def test_several_secrets_of_a_host_are_all_told() -> None:
    async def work() -> Host:
        async with https_host("host.test") as host:
            key = secret(host.port, name="key", header="X-Api-Key", format="{secret}")
            await ask(host, GET + b"Connection: close\r\n\r\n", secret(host.port), key)
            return host

    (asked,) = asyncio.run(work()).asked
    assert asked.all("authorization") == [f"Bearer {VALUE}"]
    assert asked.all("x-api-key") == [VALUE]


LONG = POST + b"Content-Length: 1000000\r\n\r\n" + bytes(300_000)


@pytest.mark.parametrize(
    ("request_bytes", "answer", "said"),
    [
        (GET + b"\r\n", b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end"),
        (GET + b"\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nleave", b"leave"),
        (GET + b"\r\n", b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nwhole", b"whole"),
        (GET + b"\r\n", b"HTTP/1.1 204 No Content\r\nUpgrade: h2\r\n\r\n", b"204 No Content"),
        (LONG, b"HTTP/1.1 413 No\r\nContent-Length: 3\r\n\r\nbig", b"413 No"),
        (
            POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            b"100 Continue",
        ),
        (GET + b"\r\n", f"HTTP/1.1 302 {VALUE}\r\nLocation: /{VALUE}\r\n\r\n".encode(), b"302 "),
        (GET + b"\r\n", b"no HTTP\r\n\r\n", b"502 Bad Gateway"),
        (GET + b"\r\n", b"", b"502 Bad Gateway"),
        (GET + b"\r\n", b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n", b"502 Bad Gateway"),
    ],
    ids=[
        "no length",
        "hangs up then",
        "old",
        "empty",
        "early",
        "continue",
        "echo",
        "nonsense",
        "nothing",
        "upgrade",
    ],
)
def test_answers_of_every_form_are_passed_on_and_nonsense_is_not(
    request_bytes: bytes, answer: bytes, said: bytes
) -> None:
    async def work() -> bytes:
        lingers = request_bytes is LONG  # else what is not read yet would be lost
        async with https_host("host.test", answer=answer, lingers=lingers) as host:
            return (await ask(host, request_bytes))[0]

    heard = asyncio.run(work())
    assert said in heard
    assert VALUE.encode() not in heard
    assert b"upgrade:" not in heard.lower()


def test_half_of_an_answer_is_not_made_whole() -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf"

    async def work() -> tuple[bytes, Attempts]:
        async with https_host("host.test", answer=half) as host:
            return await ask(host, GET + b"\r\n")

    said, attempts = asyncio.run(work())
    assert b"content-length: 1000" in said.lower()
    assert said.endswith(b"half")
    assert [attempt.refusal for attempt in attempts] != [None]


def test_a_host_that_does_not_prove_who_it_is_is_told_nothing() -> None:
    async def work() -> tuple[bytes, Attempts, Host]:
        async with https_host("host.test", names_itself="evil.test") as host:
            return *await ask(host, GET + b"\r\n"), host

    said, attempts, host = asyncio.run(work())
    assert b"does not prove who it is" in said
    assert [attempt.host for attempt in attempts] == ["host.test"]
    assert host.asked == []


def test_what_a_stand_in_says_holds_for_its_hosts_only() -> None:
    authority = Authority(["host.test"])
    trust = ssl.create_default_context(cadata=authority.certificate)

    async def meet(name: str) -> None:
        context = authority.stand_in(name)
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        try:
            _, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=trust, server_hostname=name
            )
            writer.close()
        finally:
            server.close()

    asyncio.run(meet("host.test"))
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
        asyncio.run(meet("other.test"))


def test_an_echo_is_blotted_out_wherever_it_is_cut() -> None:
    sent = b"xx s3cr3t yy s3cr3 s3cr3t"
    for at in range(len(sent) + 1):
        echoes = Echoes([b"s3cr3t"])
        shown = echoes.feed(sent[:at]) + echoes.feed(sent[at:]) + echoes.end()
        assert shown == b"xx ****** yy s3cr3 ******"
