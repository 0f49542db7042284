"""How well databases are protected, as a page in Prefect's UI and a table in a terminal.

Both are made of the same rows, so they cannot tell two stories.
"""

from __future__ import annotations

from collections.abc import Sequence

from flowforge.rules.reports import duration
from flowforge.rules.standing import DatabaseStanding, StoreStanding, Trend

MOST_DATABASES = 50
_BARS = "▁▂▃▄▅▆▇█"


def rows(standings: Sequence[DatabaseStanding]) -> list[dict[str, str]]:
    """One row per database, those first that need somebody; at most fifty and how many more."""
    order = {"missed": 0, "unknown": 1, "kept": 2}
    ordered = sorted(standings, key=lambda one: (order[one.verdict], one.server, one.database))
    shown = [_row(one) for one in ordered[:MOST_DATABASES]]
    if more := len(ordered) - len(shown):
        shown.append(dict.fromkeys(shown[0], "") | {"database": f"and {more} more"})
    return shown


def headline(standings: Sequence[DatabaseStanding]) -> str:
    """What the page says first: `2 of 3 databases keep what was promised`."""
    kept = sum(one.verdict == "kept" for one in standings)
    missed = [f"{one.server}/{one.database}" for one in standings if one.verdict == "missed"]
    unknown = sum(one.verdict == "unknown" for one in standings)
    text = f"{kept} of {len(standings)} databases keep what was promised"
    text += f"; missed: {', '.join(missed[:5])}" if missed else ""
    return (
        f"{text}; not known yet of {unknown}, for want of a drill or a proof" if unknown else text
    )


def _row(one: DatabaseStanding) -> dict[str, str]:
    return {
        "database": f"{one.server}/{one.database}",
        "promise": one.verdict,
        "newest copy": one.newest_copy,
        "level": "failed" if one.failed else f"L{one.level}",
        "RPO now": _against(one.rpo_seconds, one.rpo_target_seconds),
        "RTO": _rto(one),
        "trend": trend(one.trend),
        "last proof": _ago(one.proof_age_seconds),
        "stores": "; ".join(_store(store) for store in one.stores),
        "mind": "; ".join(_remarks(one)),
    }


def trend(found: Trend) -> str:
    """The last drills as bars, and where they lead: `▁▂▄█ +1.5 s a day, too slow on 2027-03-01`."""
    if not found.seconds:
        return ""
    low, high = min(found.seconds), max(found.seconds)
    step = (high - low) / (len(_BARS) - 1) or 1.0
    bars = "".join(_BARS[round((seconds - low) / step)] for seconds in found.seconds)
    if found.seconds_per_day is None:
        return bars
    text = f"{bars} {found.seconds_per_day:+.1f} s a day"
    return f"{text}, too slow on {found.crosses_on}" if found.crosses_on else text


def _against(seconds: float | None, target: float, *, unknown: str = "no copy") -> str:
    if seconds is None:
        return f"{unknown} (target {duration(target)})"
    sign = "≤" if seconds <= target else ">"
    return f"{duration(seconds)} {sign} {duration(target)}"


def _rto(one: DatabaseStanding) -> str:
    text = _against(one.rto_seconds, one.rto_target_seconds, unknown="no drill, no proof yet")
    by_proof = f", measured by the proof of {one.rto_proof_of}; no drill yet"
    return text + by_proof if one.rto_proof_of else text


def _store(one: StoreStanding) -> str:
    text = f"{one.store}: {one.copies:,} copies"
    if one.newest_copy is None:
        return f"{text}, none read back"
    return f"{text}, {duration(one.behind_seconds)} behind" if one.behind_seconds else text


def _remarks(one: DatabaseStanding) -> list[str]:
    remarks = [one.fall] if one.fall else []
    if one.skipped_in_a_row:
        remarks.append(f"{one.skipped_in_a_row} backups skipped in a row")
    if one.orphans:
        remarks.append(f"{one.orphans} leftovers of killed runs")
    return remarks


def _ago(seconds: float | None) -> str:
    return "never" if seconds is None else f"{duration(seconds)} ago"
