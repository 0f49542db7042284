"""How many processes there are beside the keeper, and how much memory is theirs alone."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Seen:
    """All processes of a sandbox at one moment."""

    processes: int
    private_bytes: int
    """Memory that is not the content of a file, summed; what they share by purpose is not in it."""


def count_files(places: Iterable[Path], most: int) -> int:
    """Files on disks that would hold more than `most`: each costs memory of the kernel."""
    disks = {place.stat().st_dev: os.statvfs(place) for place in places}
    return sum(disk.f_files - disk.f_ffree for disk in disks.values() if disk.f_files > most)


def look() -> Seen:
    """Count every process but this one."""
    own, processes, pages = str(os.getpid()), 0, 0
    with os.scandir("/proc") as entries:
        names = [entry.name for entry in entries if entry.name.isdigit()]
    for name in names:
        if name == own:
            continue
        try:
            descriptor = os.open(f"/proc/{name}/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue  # it has ended meanwhile
        try:
            _, resident, shared, *_ = os.read(descriptor, 200).split()
        except (OSError, ValueError):
            continue
        finally:
            os.close(descriptor)
        processes += 1
        pages += int(resident) - int(shared)
    return Seen(processes, pages * _PAGE)
