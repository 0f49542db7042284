"""Mend a broken `prefect.yaml` in memory, so that one reading finds what is wrong beyond the break.

What is mended is never deployed: the file is refused for the problem that was found first. Lists
keep their length, so an index found later still means the same entry.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

UNSET = "unset"
_SCHEDULE = {"cron": "0 0 * * *", "timezone": "UTC"}
Path = tuple[str | int, ...]


def mend(content: Mapping[str, Any], broken: Iterable[tuple[Path, bool]]) -> dict[str, Any]:
    """Copy the content with its broken places dropped or replaced by something harmless.

    Args:
        content: The file's content.
        broken: Paths of what a model refused, each with whether it was an unknown key.
    """
    mended: dict[str, Any] = copy.deepcopy(dict(content))
    for path, is_unknown in broken:
        parent = _parent(mended, path)
        if isinstance(parent, list) and isinstance(path[-1], int):
            parent[path[-1]] = _stand_in(path)
        elif isinstance(parent, dict):
            parent.pop(path[-1], None)
            if not is_unknown and (stand_in := _stand_in(path)) is not None:
                parent[path[-1]] = stand_in
    return mended


def _parent(content: Any, path: Path) -> Any:
    node = content
    for part in path[:-1]:
        if isinstance(node, dict):
            node = node.get(part)
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
        else:
            return None
    return node if path else None


def _stand_in(path: Path) -> Any:
    """Something valid for a place that must be filled; `None` where nothing is needed."""
    if path[0] != "deployments" or len(path) < 2:
        return None
    index = int(path[1]) + 1
    entry = {"name": f"#{index}", "entrypoint": f"{UNSET}.py:{UNSET}", "work_pool": {"name": UNSET}}
    within = path[2:]
    if not within:
        return entry
    if within[0] == "schedules" and len(within) >= 2:
        schedule = {"slug": f"schedule-{int(within[1]) + 1}", **_SCHEDULE}
        if len(within) == 2:
            return schedule
        return schedule.get(str(within[2])) if within[2] in ("slug", "timezone") else None
    if within == ("work_pool", "name"):
        return UNSET
    return entry.get(str(within[0])) if len(within) == 1 else None
