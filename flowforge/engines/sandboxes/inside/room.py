"""A file system of its own: system folders to read, one bounded disk to write, and nothing else."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from . import system

WORKSPACE = Path("/workspace")
TEMPORARY = Path("/tmp")
SHARED_MEMORY = Path("/dev/shm")
WRITABLE = (WORKSPACE, TEMPORARY, SHARED_MEMORY)
DEVICES = ("null", "zero", "full", "random", "urandom")
USER = 1000

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
# What programs need to find their parts, without the passwords other files of /etc may hold.
_SETTINGS = (
    *(
        "alternatives",
        "ca-certificates",
        "ca-certificates.conf",
        "crypto-policies",
        "debian_version",
    ),
    *("fonts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "magic", "mime.types"),
    *("os-release", "perl", "pki", "protocols", "services", "ssl/certs", "ssl/openssl.cnf"),
    *("terminfo", "timezone"),
)
_WRITTEN = {
    "passwd": f"root:x:0:0::/:/bin/false\nagent:x:{USER}:{USER}::/tmp:/bin/sh\n",
    "group": f"root:x:0:\nagent:x:{USER}:\n",
    "hosts": "127.0.0.1 localhost sandbox\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "resolv.conf": "",
}
_LIBRARIES_OF_JAVA = "java-"
_OLD, _NEW = Path("/old"), Path("/new")
_FIXED = system.NO_SETUID | system.NO_DEVICES
_INTERFACE_FLAGS, _UP = 0x8914, 1


@dataclass(frozen=True)
class Size:
    """How much may be written."""

    disk_bytes: int
    files: int


def build(size: Size, folders: tuple[str, ...]) -> None:
    """Make the new root, in new namespaces of which this is the first process, and move there.

    Args:
        size: Of the one disk that the workspace, `/tmp` and shared memory lie on. It is memory.
        folders: More folders that commands may read, at the paths they have outside.
    """
    system.mount("none", "/", "", system.RECURSIVE | system.PRIVATE)
    system.mount("tmpfs", "/tmp", "tmpfs", _FIXED, "mode=755,size=4m")
    for folder in (_NEW, _OLD):
        Path(f"/tmp{folder}").mkdir()
    system.call("pivot_root", b"/tmp", f"/tmp{_OLD}".encode())
    os.chdir("/")
    system.mount("tmpfs", str(_NEW), "tmpfs", _FIXED, "mode=755,size=4m")
    for name in (*_SYSTEM, *folders):
        _show(Path(name))
    _make_settings()
    _make_devices()
    _make_disk(size)
    _make_processes()
    _move_in()


def start_loopback(name: str) -> None:
    """Give the new network its only interface, and the machine a name that says nothing."""
    socket.sethostname(name)
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _INTERFACE_FLAGS, struct.pack("16sH14x", b"lo", _UP))


def _show(path: Path) -> None:
    """Let a file or folder of the machine be seen at its own path, if it is there and may be."""
    source, target = _OLD / path.relative_to("/"), _NEW / path.relative_to("/")
    try:
        if source.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(source.readlink())
            return
        is_folder = source.is_dir()
        if not (is_folder or source.is_file()) or target.exists():
            return
    except PermissionError:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.mkdir() if is_folder else target.touch()
    system.mount(str(source), str(target), "", system.BIND | system.RECURSIVE)
    system.set_mount_flags(str(target), _FIXED | system.READ_ONLY, with_those_below=True)


def _make_settings() -> None:
    settings = _NEW / "etc"
    settings.mkdir()
    for name in _SETTINGS:
        _show(Path("/etc", name))
    for found in sorted((_OLD / "etc").glob(f"{_LIBRARIES_OF_JAVA}*")):
        _show(Path("/etc", found.name))
    for name, text in _WRITTEN.items():
        (settings / name).write_text(text)


def _make_devices() -> None:
    devices = _NEW / "dev"
    devices.mkdir()
    for name in DEVICES:
        (devices / name).touch()
        system.mount(f"{_OLD}/dev/{name}", f"{devices}/{name}", "", system.BIND)
    terminals = devices / "pts"
    terminals.mkdir()
    options = "newinstance,ptmxmode=0666,mode=620"
    system.mount(
        "devpts", str(terminals), "devpts", system.NO_SETUID | system.NO_EXECUTION, options
    )
    links = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0"}
    links |= {"stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}
    for name, target in links.items():
        (devices / name).symlink_to(target)


def _make_disk(size: Size) -> None:
    """One disk for all that can be written, so that it has one bound."""
    disk = _NEW / "disk"
    disk.mkdir()
    options = f"mode=700,size={size.disk_bytes},nr_inodes={size.files}"
    system.mount("tmpfs", str(disk), "tmpfs", _FIXED, options)
    for path, mode in ((WORKSPACE, 0o755), (TEMPORARY, 0o1777), (SHARED_MEMORY, 0o1777)):
        target = _NEW / path.relative_to("/")
        target.mkdir(parents=True)
        part = disk / path.name
        part.mkdir()
        part.chmod(mode)
        system.mount(str(part), str(target), "", system.BIND)
    system.detach(str(disk))
    disk.rmdir()
    (_NEW / "var").mkdir()
    (_NEW / "var/tmp").symlink_to("/tmp")


def _make_processes() -> None:
    target = _NEW / "proc"
    target.mkdir()
    flags = _FIXED | system.NO_EXECUTION
    try:
        system.mount("proc", str(target), "proc", flags)
    except PermissionError as error:
        raise OSError(errno.EPERM, "the kernel allows no /proc of its own here", "proc") from error


def _move_in() -> None:
    os.chdir(_NEW)
    system.call("pivot_root", b".", b".")
    system.detach(".")
    os.chdir("/")
    system.set_mount_flags("/", _FIXED | system.READ_ONLY, with_those_below=False)
