"""HTTP between a command and a host that is told a secret: request by request, nothing else.

Each side is read as HTTP/1.1 and said anew to the other, so both understand the same. Requests that
two readers could understand in two ways are refused, and so is what is meant for another host: it
would carry the secret there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

import h11

from flowforge.engines.sandboxes.connections import Connection, Refusal
from flowforge.engines.sandboxes.echoes import Echoes
from flowforge.rules.jobs.egress import HTTPS
from flowforge.rules.jobs.egress_secrets import HostSecret

_HEAD_BYTES = 64 * 1024
_OF_ONE_HOP = {
    *(b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization"),
    *(b"te", b"trailer", b"upgrade", b"accept-encoding"),
}
_UNPACKED = (b"accept-encoding", b"identity")
"""Else a secret in the answer could not be seen."""

_LAST = (b"connection", b"close")
Header = tuple[bytes, bytes]


class _HungUp(ConnectionError):
    """A side takes nothing any more."""


@dataclass
class _Side:
    connection: Connection
    http: h11.Connection
    blame: HTTPStatus
    """What is wrong when no HTTP comes from there."""

    async def next(self) -> object:
        """What comes next.

        Raises:
            Refusal: It is no HTTP.
        """
        while True:
            try:
                event = self.http.next_event()
            except h11.RemoteProtocolError as error:
                raise Refusal(self.blame, "this is not HTTP/1.1 as it should be") from error
            if event is not h11.NEED_DATA:
                return event
            self.http.receive_data(await self.connection.read())

    async def say(self, event: h11.Event) -> None:
        """Send something.

        Raises:
            _HungUp: Nobody takes it any more.
        """
        if data := self.http.send(event):
            try:
                await self.connection.write(data)
            except ConnectionError as error:
                raise _HungUp from error

    @property
    def is_ready(self) -> bool:
        """Whether another request may follow."""
        return self.http.our_state is h11.DONE and self.http.their_state is h11.DONE


class Relay:
    """Carries the requests of one connection.

    Args:
        inside: To the command.
        outside: To the host.
        secrets: What is said with each request. All are of this one host.
    """

    def __init__(
        self, inside: Connection, outside: Connection, secrets: Sequence[HostSecret]
    ) -> None:
        self._inside = _Side(inside, _http(h11.SERVER), HTTPStatus.BAD_REQUEST)
        self._outside = _Side(outside, _http(h11.CLIENT), HTTPStatus.BAD_GATEWAY)
        host, port = secrets[0].address
        self._names = {f"{host}:{port}".encode(), *((host.encode(),) if port == HTTPS else ())}
        self._added = [(one.header.lower().encode(), one.said.encode()) for one in secrets]
        values = {one.value.get_secret_value().encode() for one in secrets}
        self._echoes = Echoes(values)

    async def run(self) -> None:
        """Work until one side has had enough.

        Raises:
            Refusal: Something is not passed on; the command was told.
        """
        try:
            while await self._exchange():
                self._inside.http.start_next_cycle()
                self._outside.http.start_next_cycle()
        except Refusal as refusal:
            await self._refuse(refusal)
            raise

    async def _exchange(self) -> bool:
        """Carry one request and its answer; false when no other may follow."""
        request = await self._next_request()
        if not isinstance(request, h11.Request):
            return False
        self._check(request)
        removed = _OF_ONE_HOP | {name for name, _ in self._added}
        kept = [(name, value) for name, value in request.headers if name not in removed]
        headers = [*kept, *self._added, _UNPACKED]
        await self._outside.say(
            h11.Request(method=request.method, target=request.target, headers=headers)
        )
        try:
            async with asyncio.TaskGroup() as both_ways:
                sending = both_ways.create_task(self._pass_body())
                await self._pass_answer()
                sending.cancel()  # a host may answer before it has heard all
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
        return self._inside.is_ready and self._outside.is_ready

    async def _next_request(self) -> object:
        """What the command says next; nothing when the host has had enough before that."""
        asked = asyncio.create_task(self._inside.next())
        left = asyncio.create_task(self._outside.connection.read())
        try:
            await asyncio.wait((asked, left), return_when=asyncio.FIRST_COMPLETED)
            return None if left.done() else await asked
        finally:
            for task in (asked, left):
                task.cancel()
            await asyncio.gather(asked, left, return_exceptions=True)

    def _check(self, request: h11.Request) -> None:
        named = [value.lower() for name, value in request.headers if name == b"host"]
        if len(named) != 1 or named[0] not in self._names:
            why = "the Host header names another host than the connection was made to"
            raise Refusal(HTTPStatus.MISDIRECTED_REQUEST, why)
        if request.method == b"CONNECT" or not request.target.startswith((b"/", b"*")):
            raise Refusal(HTTPStatus.BAD_REQUEST, "the request is not for this host")
        names = {name for name, _ in request.headers}
        if b"upgrade" in names:
            why = "another protocol cannot be spoken with a host that is told a secret"
            raise Refusal(HTTPStatus.NOT_IMPLEMENTED, why)
        if {b"transfer-encoding", b"content-length"} <= names:
            raise Refusal(HTTPStatus.BAD_REQUEST, "the length of the request is told in two ways")

    async def _pass_body(self) -> None:
        with contextlib.suppress(_HungUp):  # what the host said of it may still be read
            while isinstance(event := await self._inside.next(), h11.Data):
                await self._outside.say(h11.Data(data=bytes(event.data)))
            if isinstance(event, h11.EndOfMessage):
                await self._outside.say(h11.EndOfMessage())

    async def _pass_answer(self) -> None:
        while not isinstance(event := await self._outside.next(), h11.EndOfMessage):
            if isinstance(event, h11.Data):
                await self._show(self._echoes.feed(bytes(event.data)))
            elif isinstance(event, h11.Response | h11.InformationalResponse):
                await self._inside.say(self._without_echoes(event))
            else:
                why = "the host hung up before its answer was complete"
                raise Refusal(HTTPStatus.BAD_GATEWAY, why)
        await self._show(self._echoes.end())
        await self._inside.say(h11.EndOfMessage())

    async def _show(self, data: bytes) -> None:
        if data:
            await self._inside.say(h11.Data(data=data))

    def _without_echoes(
        self, answer: h11.Response | h11.InformationalResponse
    ) -> h11.Response | h11.InformationalResponse:
        headers = [
            (name, self._echoes.blot(value))
            for name, value in answer.headers
            if name not in _OF_ONE_HOP
        ]
        said = [value.lower() for name, value in answer.headers if name == b"connection"]
        is_last = any(b"close" in value for value in said)
        if isinstance(answer, h11.Response) and (is_last or answer.http_version < b"1.1"):
            headers.append(_LAST)
        reason = self._echoes.blot(bytes(answer.reason))
        return type(answer)(status_code=answer.status_code, headers=headers, reason=reason)

    async def _refuse(self, refusal: Refusal) -> None:
        if self._inside.http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return  # half of an answer is out; that it ends here tells that it is not whole
        body = f"{refusal}\n".encode()
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body)), _LAST]
        reason = HTTPStatus(refusal.status).phrase.encode()
        await self._inside.say(
            h11.Response(status_code=refusal.status, headers=headers, reason=reason)
        )
        await self._inside.say(h11.Data(data=body))
        await self._inside.say(h11.EndOfMessage())


def _http(role: type[h11.SERVER] | type[h11.CLIENT]) -> h11.Connection:
    return h11.Connection(role, max_incomplete_event_size=_HEAD_BYTES)
