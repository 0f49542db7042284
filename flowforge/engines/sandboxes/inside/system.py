"""Calls to the kernel that Python has no name for."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable

NEW_USER = 0x10000000
NEW_PID = 0x20000000
NEW_NET = 0x40000000
NEW_MOUNTS = 0x00020000
NEW_IPC = 0x08000000
NEW_UTS = 0x04000000

READ_ONLY = 0x01
NO_SETUID = 0x02
NO_DEVICES = 0x04
NO_EXECUTION = 0x08
BIND = 0x1000
RECURSIVE = 0x4000
PRIVATE = 0x40000
DETACH = 2

BENEATH = 0x08
NO_MAGIC_LINKS = 0x02

_SET_DEATH_SIGNAL = 1
_SET_DUMPABLE = 4
_DROP_FROM_BOUNDING_SET = 24
_SET_NO_NEW_PRIVILEGES = 38
_JOIN_SESSION_KEYRING = 1
_AT_RECURSIVE = 0x8000
_MOUNT_ATTRIBUTES = struct.Struct("=QQQQ")
_OPEN_HOW = struct.Struct("=QQQ")

_NUMBERS = {
    "x86_64": {"pivot_root": 155, "keyctl": 250},
    "aarch64": {"pivot_root": 41, "keyctl": 219},
}
_NUMBERS_EVERYWHERE = {
    "openat2": 437,
    "mount_setattr": 442,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
}
_libc = ctypes.CDLL(None, use_errno=True)
_syscall: Callable[..., int] = _libc.syscall
_syscall.restype = ctypes.c_long  # type: ignore[attr-defined]


def machine() -> str | None:
    """The kind of processor, when the numbers of its system calls are known here."""
    return kind if (kind := os.uname().machine) in _NUMBERS else None


def call(name: str, *arguments: object) -> int:
    """Call the kernel by the name of a system call.

    Raises:
        OSError: As the kernel said; `filename` is the name of the call.
    """
    number = _NUMBERS_EVERYWHERE.get(name) or _NUMBERS[os.uname().machine][name]
    widened = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _checked(name, _syscall(ctypes.c_long(number), *widened))


def unshare(kinds: int) -> None:
    """Leave namespaces for new ones."""
    _checked("unshare", _libc.unshare(ctypes.c_int(kinds)))


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount, bind, or change how something is mounted."""
    done = _libc.mount(
        source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode()
    )
    _checked(f"mount {target}", done)


def set_mount_flags(target: str, flags: int, *, with_those_below: bool) -> None:
    """Add to the flags of a mount, never taking one away."""
    values = _MOUNT_ATTRIBUTES.pack(flags, 0, 0, 0)
    how = _AT_RECURSIVE if with_those_below else 0
    call("mount_setattr", -1, target.encode(), how, values, len(values))


def detach(target: str) -> None:
    """Take a mount and all below it out of sight."""
    _checked(f"umount {target}", _libc.umount2(target.encode(), DETACH))


def open_beneath(path: bytes, flags: int, mode: int = 0, *, folder: int) -> int:
    """Open a path that must not leave a folder, whatever links are put in its way meanwhile."""
    how = _OPEN_HOW.pack(flags | os.O_CLOEXEC, mode, BENEATH | NO_MAGIC_LINKS)
    return call("openat2", folder, path, how, len(how))


def die_with_parent(signal: int) -> None:
    """Get a signal when the parent ends."""
    _prctl("die with parent", _SET_DEATH_SIGNAL, signal)


def set_dumpable(*, yes: bool) -> None:
    """Whether others of the same account may look into this process."""
    _prctl("set dumpable", _SET_DUMPABLE, int(yes))


def gain_no_privileges() -> None:
    """Let no program started from here have more rights than this process."""
    _prctl("no new privileges", _SET_NO_NEW_PRIVILEGES, 1)


def drop_bounding_set() -> None:
    """Let no program started from here ever get a capability."""
    last = int(_read("/proc/sys/kernel/cap_last_cap"))
    for capability in range(last + 1):
        _prctl("drop a capability", _DROP_FROM_BOUNDING_SET, capability)


def join_new_keyring() -> None:
    """Leave the kernel's keyring that was inherited."""
    call("keyctl", _JOIN_SESSION_KEYRING, None)


def prctl_filter(program: object) -> None:
    """Install a filter of system calls."""
    _prctl("filter system calls", 22, 2, program)


def _prctl(what: str, option: int, first: int, second: object = 0) -> None:
    extra = ctypes.c_ulong(second) if isinstance(second, int) else second
    _checked(
        what,
        _libc.prctl(ctypes.c_int(option), ctypes.c_ulong(first), extra, *[ctypes.c_ulong(0)] * 2),
    )


def _checked(what: str, result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def _read(path: str) -> str:
    with open(path) as file:  # noqa: PTH123
        return file.read()
