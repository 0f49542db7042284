"""What the docker engine is asked, and how its stream of a container's output is read."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

import docker  # type: ignore[import-untyped]

from flowforge.errors import FlowForgeError, Refused, Unavailable

_SECONDS = 30
_UNIX = "unix://"
_USUAL = f"{_UNIX}/var/run/docker.sock"
_CONFLICT, _FAILED = 409, 500
_HEADER = struct.Struct("!BxxxI")
_ATTACHED = {"stdin": 1, "stdout": 1, "stream": 1}


class Output:
    """A container's standard output out of the engine's mixed stream."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._left = 0

    async def read(self, size: int) -> bytes:
        """Some bytes, or none at the end."""
        while self._left == 0:
            try:
                _, self._left = _HEADER.unpack(await self._reader.readexactly(_HEADER.size))
            except asyncio.IncompleteReadError:
                return b""
        data = await self._reader.read(min(size, self._left))
        self._left -= len(data)
        return data


class Engine:
    """One docker engine.

    Args:
        address: Such as `unix:///var/run/docker.sock`; that of the environment when `None`.
    """

    def __init__(self, address: str | None) -> None:
        self._address = address

    def check(self) -> None:
        """Ask for a sign of life.

        Raises:
            Unavailable: It does not give one.
        """
        with self._asked() as client:
            client.ping()

    def start(self, image: str, settings: dict[str, Any]) -> socket.socket:
        """Start a new container with its input and output in our hands.

        Returns:
            The connection both go through.

        Raises:
            Refused: The engine does not have the image, or does not want the settings.
            Unavailable: It does not answer.
        """
        with self._asked() as client:
            container = client.containers.create(image, **settings)
            attached = container.attach_socket(params=_ATTACHED)
            connection = socket.socket(fileno=socket.dup(attached.fileno()))
            attached._response.close()  # the only handle that closes all of the client's own
            try:
                container.start()
            except BaseException:
                connection.close()
                raise
            connection.setblocking(False)
            return connection

    def find(self, label: str) -> list[tuple[str, dict[str, str]]]:
        """The name and labels of every container with a label, also those that have ended."""
        with self._asked() as client:
            found = client.containers.list(all=True, filters={"label": label})
            return [(one.name, one.labels) for one in found]

    def remove(self, name: str) -> None:
        """End and remove a container; one that is gone, or going already, is fine."""
        with self._asked() as client, contextlib.suppress(docker.errors.NotFound):
            try:
                client.containers.get(name).remove(force=True, v=True)
            except docker.errors.APIError as error:
                if error.status_code != _CONFLICT:
                    raise

    @contextlib.contextmanager
    def _asked(self) -> Iterator[Any]:
        """A client of its own for each question, as they come from several threads."""
        with _said_plainly():
            _check_listens(self._address or os.environ.get("DOCKER_HOST") or _USUAL)
            if self._address is None:
                client = docker.from_env(timeout=_SECONDS)
            else:
                client = docker.DockerClient(base_url=self._address, timeout=_SECONDS)
            with contextlib.closing(client):
                yield client


def _check_listens(address: str) -> None:
    """Make sure that there is an engine: the client leaves its socket open where there is none."""
    if address.startswith(_UNIX):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(address.removeprefix(_UNIX))


@contextlib.contextmanager
def _said_plainly() -> Iterator[None]:
    """Turn what the engine's client raises into what a person can act on."""
    try:
        yield
    except docker.errors.ImageNotFound as error:
        raise Refused(
            f"The docker engine has no such image: {error.explanation}.",
            hint="`docker pull` it on this machine, or name another image.",
        ) from error
    except docker.errors.APIError as error:
        raise _judge(error) from error
    except (docker.errors.DockerException, OSError) as error:
        raise Unavailable(
            f"The docker engine does not answer ({type(error).__name__}).",
            hint="Start it, or say where it is with DOCKER_HOST; on Debian: apt install docker.io.",
        ) from error


def _judge(error: docker.errors.APIError) -> FlowForgeError:
    said = str(error.explanation)
    if error.status_code == _FAILED:
        return Unavailable(
            f"The docker engine failed: {said}.", hint="Look into the log of the docker engine."
        )
    return Refused(
        f"The docker engine refused: {said}.",
        hint="Use an image with Python 3.9 or newer as `python3`, and limits this machine has.",
    )
