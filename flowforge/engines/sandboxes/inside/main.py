"""From a plain process to the keeper of a sandbox.

    brain > guardian > keeper > commands

The guardian leaves every namespace and becomes the parent of the keeper, the first process in the
new ones. It watches the brain: when that ends, however it ends, so do the keeper and all commands.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any, NoReturn

from . import frames, prepare, room, system
from .keeper import Keeper

_NAMESPACES = (
    system.NEW_USER
    | system.NEW_PID
    | system.NEW_NET
    | system.NEW_MOUNTS
    | system.NEW_IPC
    | system.NEW_UTS
)


def main(descriptor: int) -> NoReturn:
    """Be the guardian of one sandbox, told over a stream what it shall be like."""
    stream = socket.socket(fileno=descriptor)
    stream.set_inheritable(False)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        wishes = _receive_wishes(stream)
        brain = os.pidfd_open(wishes["brain"])
        if os.getppid() != wishes["brain"]:
            os._exit(1)
        _leave(wishes.get("account"))
        keeper = os.fork()
        if keeper == 0:
            _keep(stream, wishes)
    except OSError as error:
        _fail(stream, error)
    stream.close()
    _guard(brain, keeper)


def _receive_wishes(stream: socket.socket) -> dict[str, Any]:
    buffer = bytearray()
    while True:
        for kind, _, payload in frames.unpack(buffer):
            if kind != frames.START:
                raise frames.Broken("the first frame must say what is wanted")
            return frames.read_values(payload)
        if not (data := stream.recv(frames.CHUNK)):
            os._exit(1)
        buffer += data


def _leave(account: int | None) -> None:
    """Give up every right on the machine, then leave it."""
    if account is not None:
        try:
            os.setgroups([])
            os.setresgid(account, account, account)
            os.setresuid(account, account, account)
        except OSError as error:
            raise OSError(error.errno, error.strerror, f"become account {account}") from error
        system.set_dumpable(yes=True)  # else the files that map accounts belong to root
    user, group = os.getuid(), os.getgid()
    system.unshare(_NAMESPACES)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{room.USER} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{room.USER} {group} 1")


def _guard(brain: int, keeper: int) -> NoReturn:
    """Wait until the keeper or the brain has ended; the other one must not live longer."""
    ended = os.pidfd_open(keeper)
    poll = select.poll()
    for descriptor in (brain, ended):
        poll.register(descriptor, select.POLLIN)
    poll.poll()
    os.kill(keeper, signal.SIGKILL)
    os.waitpid(keeper, 0)  # returns when the last process of the namespace is gone
    os._exit(0)


def _keep(stream: socket.socket, wishes: dict[str, Any]) -> NoReturn:
    """Be the first process of the new namespaces."""
    try:
        system.die_with_parent(signal.SIGKILL)
        _prepare(wishes)
        links = prepare.open_links(wishes)
        system.join_new_keyring()
        system.drop_bounding_set()
        prepare.wall_in()
        place = prepare.make_place(wishes)
        stream.send(prepare.ready())
        count_kills = prepare.counter(wishes.get("kills"))
        tell = hear = stream.fileno()
        Keeper(hear, tell, place, links, wishes["memory_bytes"], count_kills).serve()
    except OSError as error:
        _fail(stream, error)
    finally:
        os._exit(1)


def _prepare(wishes: dict[str, Any]) -> None:
    size = room.Size(wishes["disk_bytes"], wishes["files"])
    room.build(size, tuple(wishes["folders"]))
    room.start_loopback("sandbox")
    Path("/proc/sys/user/max_user_namespaces").write_text("0")


def _fail(stream: socket.socket, error: OSError) -> NoReturn:
    stream.send(prepare.failed(error))
    os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]))
