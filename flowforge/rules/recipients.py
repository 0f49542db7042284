"""Which recovery keys open which copies, and which of them may be thrown away."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flowforge.rules.values import Value


class Recipient(Value):
    """One public key, and what rests on the secret one that belongs to it."""

    public_key: str
    in_use: bool
    """Whether new copies are sealed to it."""

    opens: int
    """How many copies it opens."""

    needed_by: int
    """How many copies it opens that not all of today's recipients open yet."""

    @property
    def may_go(self) -> bool:
        """Whether its secret key may be thrown away without a copy being lost or less safe."""
        return not self.in_use and not self.needed_by

    def row(self) -> dict[str, str]:
        """The key as tables show it."""
        fate = "in use" if self.in_use else "may be thrown away" if self.may_go else "still needed"
        return {
            "public key": self.public_key,
            "opens": f"{self.opens:,} copies",
            "needed by": f"{self.needed_by:,} copies",
            "secret key": fate,
        }


def is_current(opened_by: Iterable[str], today: Iterable[str]) -> bool:
    """Tell whether all of a store's recipients of today open a copy."""
    return set(today) <= set(opened_by)


def weigh(copies: Mapping[str, Iterable[str]], today: Iterable[str]) -> tuple[Recipient, ...]:
    """Weigh every public key: first those in use, in their order, then retired ones.

    Args:
        copies: The public keys that each sealed copy was wrapped to at any time.
        today: The store's recipients.
    """
    now = tuple(dict.fromkeys(today))
    opened = {name: frozenset(keys) for name, keys in copies.items()}
    retired = sorted(frozenset().union(*opened.values()) - frozenset(now))
    return tuple(
        Recipient(
            public_key=key,
            in_use=key in now,
            opens=sum(key in keys for keys in opened.values()),
            needed_by=sum(key in keys and not is_current(keys, now) for keys in opened.values()),
        )
        for key in (*now, *retired)
    )


def evidence(store: str, found: Iterable[Recipient]) -> str:
    """One line on the public keys of a store."""
    keys = list(found)
    if not keys:
        return f"copies in {store} are not sealed"
    retired = [key for key in keys if not key.in_use]
    going = sum(key.may_go for key in retired)
    text = f"copies in {store} are sealed to {len(keys) - len(retired)} keys"
    if retired:
        text += f"; of {len(retired)} retired ones {going} may be thrown away"
    return text


def report(store: str, found: Iterable[Recipient], closed: Mapping[str, str]) -> str:
    """The public keys of a store in Markdown, and the copies whose key could not be opened."""
    rows = [key.row() for key in found]
    lines = [f"# Keys of the copies in {store}", ""]
    if rows:
        lines += [f"| {' | '.join(rows[0])} |", "|---" * len(rows[0]) + "|"]
        lines += [f"| {' | '.join(row.values())} |" for row in rows]
    else:
        lines.append("No copy in it is sealed, and new ones are not.")
    if closed:
        lines += ["", "Not wrapped again, because no key here opens them:", ""]
        lines += [f"- {copy}: {why}" for copy, why in closed.items()]
    return "\n".join(lines)
