"""The server: connections, requests, and what is sent back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from flowforge.twin.model import routes
from flowforge.twin.model.asked import Asked, read
from flowforge.twin.model.batches import Batches
from flowforge.twin.model.delivery import Outcome, send_stream, send_whole, whole_headers
from flowforge.twin.model.faults import Fault
from flowforge.twin.model.problems import Rejected
from flowforge.twin.model.replies import Considered, compose, consider
from flowforge.twin.model.routes import Plain
from flowforge.twin.model.state import State
from flowforge.twin.model.wire import HEAD_BYTES, Connection, Request, head

HOST = "127.0.0.1"
BATCH_SECONDS = 2.0
_WAITING_CONNECTIONS = 1000


class Server:
    """A rehearsal model that listens on loopback."""

    def __init__(self, state: State, batch_seconds: float) -> None:
        self.state = state
        self.url = ""
        self._batches = Batches(state, batch_seconds)
        self._open: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    async def listen(self, port: int) -> asyncio.Server:
        """Begin to take connections."""
        listening = await asyncio.start_server(
            self._converse, HOST, port, limit=HEAD_BYTES, backlog=_WAITING_CONNECTIONS
        )
        self.url = f"http://{HOST}:{listening.sockets[0].getsockname()[1]}"
        return listening

    async def hang_up(self) -> None:
        """End all connections at once."""
        tasks = list(self._open.values())
        for writer in self._open:
            writer.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open[writer] = task
        connection = Connection(reader, writer)
        try:
            while await self._exchange(connection):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the client left; what it cost is counted where it is known
        finally:
            del self._open[writer]
            writer.close()

    async def _exchange(self, connection: Connection) -> bool:
        """One request and its answer; whether another may follow."""
        try:
            request = await connection.read()
        except Rejected as problem:
            request_id = self.state.next_request_id()
            await self._send(connection, self._told(problem, request_id), request_id, last=True)
            return False
        if request is None:
            return False
        request_id = self.state.next_request_id()
        try:
            plain = await self._answer(connection, request, request_id)
        except Rejected as problem:
            plain = self._told(problem, request_id)
        if isinstance(plain, bool):
            return plain
        await self._send(connection, plain, request_id)
        return True

    async def _answer(
        self, connection: Connection, request: Request, request_id: str
    ) -> Plain | bool:
        if request.path.startswith(routes.CONTROL):
            return routes.control(request, self.state)
        place = routes.place_of(request.path)
        self.state.counters.requests[place] += 1
        routes.check_caller(request)
        if (request.method, request.path) == ("POST", "/v1/messages"):
            asked = self.state.threads.whole(read(Asked, request.body))
            considered = consider(asked, request.body)
            return await self._reply(connection, considered, request_id)
        if fault := self.state.faults.take(place):
            self.state.counters.faults[fault.kind] += 1
            raise fault.rejected()
        return routes.answer(request, self._batches)

    async def _reply(self, connection: Connection, considered: Considered, request_id: str) -> bool:
        """Send a message; whether the connection is good for another request."""
        state, asked = self.state, considered.asked
        fault = state.faults.take("messages", asked)
        if fault:
            await self._before(connection, fault, whole=not asked.stream)
        cached = state.cache.look_up(considered.prompt)
        state.limits.take(considered.prompt.tokens - cached.read, asked.max_tokens)
        reply = compose(considered, cached, state, "standard")
        state.limits.give_back(asked.max_tokens - reply.answer.tokens())
        headers = {"request-id": request_id, **state.limits.headers()}
        counters = state.counters
        counters.statuses["200"] += 1
        counters.begin(reply.usage)
        outcome: Outcome = "aborted"
        try:
            send = send_stream if asked.stream else send_whole
            outcome = await send(connection, reply, headers, fault)
        finally:
            counters.open_replies -= 1
            counters.finished_turns += outcome == "finished"
            counters.aborted_streams += outcome == "aborted"
        return outcome == "finished" or bool(fault and fault.kind in ("end", "error"))

    async def _before(self, connection: Connection, fault: Fault, *, whole: bool) -> None:
        """Play what goes wrong before anything was sent."""
        self.state.counters.faults[fault.kind] += 1
        if fault.kind == "status" or (whole and fault.kind == "error"):
            raise fault.rejected()
        if fault.kind == "silence":
            await connection.left_within(None)
            raise ConnectionResetError

    def _told(self, problem: Rejected, request_id: str) -> Plain:
        plain = routes.to_plain(problem.body(request_id))
        return Plain(
            plain.body,
            plain.kind,
            problem.status,
            {**self.state.limits.headers(), **problem.headers},
        )

    async def _send(
        self, connection: Connection, plain: Plain, request_id: str, *, last: bool = False
    ) -> None:
        self.state.counters.statuses[str(plain.status)] += 1
        headers = whole_headers(len(plain.body)) | {
            "content-type": plain.kind,
            "request-id": request_id,
            **plain.headers,
        }
        if last:
            headers["connection"] = "close"
        await connection.write(head(plain.status, headers) + plain.body)


@asynccontextmanager
async def serve(
    port: int = 0, *, state: State | None = None, batch_seconds: float = BATCH_SECONDS
) -> AsyncIterator[Server]:
    """Listen while the block lasts.

    Args:
        port: On loopback; 0 takes any that is free.
        state: What it remembers, when a caller wants to set it or look at it.
        batch_seconds: How long a batch takes.
    """
    server = Server(state or State(), batch_seconds)
    listening = await server.listen(port)
    try:
        yield server
    finally:
        listening.close()
        await server.hang_up()
        await listening.wait_closed()
