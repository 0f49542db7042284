"""The proxy's port inside: connections of commands, carried to the brain in frames.

So the network stays closed wherever the sandbox is, and what the brain is asked to fetch comes from
this sandbox and from nowhere else. Each way of a connection has a window: a fast one takes no
memory, and commands are heard beside it.
"""

from __future__ import annotations

import contextlib
import select
import socket

from . import frames

PROXY_PORT = 3128
_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR
_WRITABLE = select.POLLOUT | select.POLLHUP | select.POLLERR


class _Link:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.waiting = bytearray()
        """What the brain sent and the command did not take yet."""

        self.under_way = 0
        """What the brain was sent and did not take yet."""

        self.has_said_all = False
        self.has_heard_all = False
        self.is_closing = False

    @property
    def may_say(self) -> bool:
        """Whether more of what the command says may be sent."""
        return not (self.has_said_all or self.is_closing) and self.under_way < frames.WINDOW

    def give(self) -> int:
        """Give the command what it takes without waiting; how many bytes that was."""
        try:
            taken = self.connection.send(self.waiting)
        except BlockingIOError:
            return 0
        del self.waiting[:taken]
        return taken

    def hear(self) -> bytes | None:
        """What the command says; nothing at its end, and `None` if it said nothing."""
        try:
            data = self.connection.recv(min(frames.CHUNK, frames.WINDOW - self.under_way))
        except BlockingIOError:
            return None
        self.under_way += len(data)
        return data


class Links:
    """All connections to the proxy's port.

    Args:
        listener: The port; `None` where commands reach nobody.
    """

    def __init__(self, listener: socket.socket | None) -> None:
        self._listener = listener
        self._links: dict[int, _Link] = {}
        self._last = 0
        if listener:
            listener.setblocking(False)

    def register(self, poll: select.poll, *, has_room: bool) -> None:
        """Say what is waited for; nothing to read while there is no room to send it on."""
        if self._listener and has_room and len(self._links) < frames.MOST_LINKS:
            poll.register(self._listener, select.POLLIN)
        for link in self._links.values():
            wanted = select.POLLIN if has_room and link.may_say else 0
            wanted |= select.POLLOUT if link.waiting else 0
            if wanted:  # else the kernel would tell again and again that it was hung up
                poll.register(link.connection, wanted)

    def carry(self, ready: dict[int, int]) -> bytes:
        """Carry what can be carried; the frames that tell the brain."""
        frames_to_send = bytearray()
        for number, link in list(self._links.items()):
            happened = ready.get(link.connection.fileno(), 0)
            try:
                frames_to_send += self._carry_one(number, link, happened)
            except OSError:
                self._forget(number)
                frames_to_send += frames.pack(frames.LINK_CLOSED, number)
        if self._listener and ready.get(self._listener.fileno()):
            frames_to_send += self._accept(self._listener)
        return bytes(frames_to_send)

    def obey(self, kind: bytes, number: int, payload: bytes) -> None:
        """Take what the brain says of a link; one that is gone already is passed by."""
        link = self._links.get(number)
        if link is None:
            return
        if kind == frames.LINK_DATA:
            link.waiting += payload
        elif kind == frames.LINK_TAKEN:
            link.under_way -= int.from_bytes(payload, "big")
        elif kind == frames.LINK_END:
            link.has_heard_all = True
        elif kind == frames.LINK_CLOSED:
            link.is_closing = True
        self._end_if_given(number, link)

    def _accept(self, listener: socket.socket) -> bytes:
        try:
            connection, _ = listener.accept()
        except OSError:
            return b""  # whoever called has hung up again
        self._last += 1
        self._links[self._last] = _Link(connection)
        return frames.pack(frames.LINK_OPENED, self._last)

    def _carry_one(self, number: int, link: _Link, happened: int) -> bytes:
        told = b""
        if happened & _WRITABLE and link.waiting and (taken := link.give()):
            told += frames.pack(frames.LINK_TAKEN, number, taken.to_bytes(4, "big"))
            self._end_if_given(number, link)
        if happened & _READABLE and link.may_say and (data := link.hear()) is not None:
            link.has_said_all = not data
            told += frames.pack(frames.LINK_DATA if data else frames.LINK_END, number, data)
        return told

    def _end_if_given(self, number: int, link: _Link) -> None:
        if link.waiting:
            return
        if link.is_closing:
            self._forget(number)
        elif link.has_heard_all:
            with contextlib.suppress(OSError):  # the command has hung up itself
                link.connection.shutdown(socket.SHUT_WR)

    def _forget(self, number: int) -> None:
        self._links.pop(number).connection.close()
