"""What holds even where the namespaces leak: Landlock, a filter of system calls, no privileges."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from pathlib import Path

from . import system

_EXECUTE = 1 << 0
_WRITE_FILE = 1 << 1
_READ_FILE = 1 << 2
_READ_FOLDER = 1 << 3
_REFER = 1 << 13
_TRUNCATE = 1 << 14
_DEVICE_CONTROL = 1 << 15
_ALL_OF_FIRST = (1 << 13) - 1
_READ = _EXECUTE | _READ_FILE | _READ_FOLDER
_USE = _READ_FILE | _WRITE_FILE | _TRUNCATE | _DEVICE_CONTROL
_SCOPES = 0b11
"""Abstract sockets and signals reach only who is behind the same wall."""

_SCOPES_SINCE = 6
_VERSION_FLAG = 1
_BENEATH = 1
_RULESET = struct.Struct("=QQQ")
_RULE = struct.Struct("=Qi")


def landlock_version() -> int:
    """Which Landlock this kernel has; 0 for none."""
    try:
        return system.call("landlock_create_ruleset", None, 0, _VERSION_FLAG)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
            return 0
        raise


def stay_among_ourselves() -> None:
    """Let this process and its children signal, and reach by abstract sockets, only each other.

    It is a wall around the keeper, not around each command: so a command may end what an earlier
    one left running, as in a shell.
    """
    if landlock_version() >= _SCOPES_SINCE:
        values = _RULESET.pack(0, 0, _SCOPES)
        rules = system.call("landlock_create_ruleset", values, len(values), 0)
        enter(rules)
        os.close(rules)


def plan_files(writable: Iterable[Path], devices: Iterable[Path]) -> int:
    """Make rules by which all there is may be read, and only some of it written.

    TCP is left alone: the network has nothing but the loopback interface, where a job may test
    its own servers.

    Returns:
        What a process gives to `enter`.
    """
    version = landlock_version()
    known = _ALL_OF_FIRST
    known |= _REFER if version >= 2 else 0
    known |= _TRUNCATE if version >= 3 else 0
    known |= _DEVICE_CONTROL if version >= 5 else 0
    rules = system.call("landlock_create_ruleset", _RULESET.pack(known, 0, 0)[:8], 8, 0)
    _allow(rules, Path("/"), known & _READ)
    for path in writable:
        _allow(rules, path, known)
    for path in devices:
        _allow(rules, path, known & (_USE if path.is_char_device() else _USE | _READ))
    return rules


def enter(rules: int) -> None:
    """Put this process and its children behind rules, for good."""
    system.call("landlock_restrict_self", rules, 0)


def _allow(rules: int, path: Path, rights: int) -> None:
    folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        system.call("landlock_add_rule", rules, _BENEATH, _RULE.pack(rights, folder), 0)
    finally:
        os.close(folder)


# What follows is a program for the kernel's packet filter, which judges every system call.
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_NUMBER, _PROCESSOR, _FIRST_ARGUMENT = 0, 4, 16
_PROCESSORS = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000
_NEW_NAMESPACES = 0x7E020000
_SOCKETS = (1, 2, 10, 16)
"""Unix, IPv4, IPv6, netlink. Others, such as those to the host of a virtual machine, ignore
network namespaces."""

_DENIED = {
    "x86_64": (
        *(155, 161, 163, 165, 166, 167, 168, 169, 172, 173, 175, 176, 179, 246, 248, 249, 250),
        *(272, 298, 303, 304, 308, 313, 320, 321, 323, 425, 426, 427, 428, 429, 430, 431, 432),
        *(433, 442),
    ),
    "aarch64": (
        *(39, 40, 41, 51, 60, 89, 97, 104, 105, 106, 142, 217, 218, 219, 224, 225, 241, 264, 265),
        *(268, 273, 280, 282, 294, 425, 426, 427, 428, 429, 430, 431, 432, 433, 442),
    ),
}
"""Mounts, namespaces, kernel modules and programs, keyrings, performance events, io_uring, swap,
files by handle, faults handled by programs: a job needs none of them, and most holes were there."""

_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
_SOCKET = {"x86_64": 41, "aarch64": 198}


def filter_calls() -> None:
    """Refuse the system calls that no job needs, in this process and its children.

    Raises:
        OSError: The kernel has no filters.
    """
    code = b"".join(_filter(os.uname().machine))
    instructions = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    program = Program(len(code) // 8, ctypes.addressof(instructions))
    system.prctl_filter(ctypes.byref(program))


def _filter(machine: str) -> list[bytes]:
    """Instructions in order; a jump says how many are skipped when it holds and when not."""
    refuse = [_step(_RETURN, _FAIL | errno.EPERM)]
    absent = [_step(_RETURN, _FAIL | errno.ENOSYS)]
    allow = [_step(_RETURN, _ALLOW)]
    steps = [_step(_LOAD, _PROCESSOR), _step(_EQUAL, _PROCESSORS[machine], 1, 0), *absent]
    steps += [_step(_LOAD, _NUMBER), _step(_ANY_BIT, _X32, 0, 1), *absent]
    for number in _DENIED[machine]:
        steps += [_step(_EQUAL, number, 0, 1), *refuse]
    # Its flags lie in memory, where they could change after a look; libraries then use `clone`.
    steps += [_step(_EQUAL, _CLONE3, 0, 1), *absent]
    steps += [_step(_EQUAL, _CLONE[machine], 0, 4), _step(_LOAD, _FIRST_ARGUMENT)]
    steps += [_step(_ANY_BIT, _NEW_NAMESPACES, 0, 1), *refuse, *allow]
    families = [_step(_EQUAL, family, len(_SOCKETS) - at, 0) for at, family in enumerate(_SOCKETS)]
    steps += [_step(_EQUAL, _SOCKET[machine], 0, len(families) + 2)]
    steps += [_step(_LOAD, _FIRST_ARGUMENT), *families]
    steps += [_step(_RETURN, _FAIL | errno.EAFNOSUPPORT), *allow]
    return steps


def _step(code: int, value: int, if_so: int = 0, if_not: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_so, if_not, value)
