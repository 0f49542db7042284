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
