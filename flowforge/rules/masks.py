"""Masks: what a column of a clone shall hold in place of what the original held."""

from __future__ import annotations

from pydantic import Field

from flowforge.rules.values import Value


class Mask(Value):
    """One column's replacement, the same SQL expression for every row."""

    table: str = Field(description="as somebody types it: `customers` or `crm.customers`")
    column: str
    expression: str = Field(
        description="SQL over the row's own columns, for example `'user' || id || '@example.org'`"
    )


class MaskedTable(Value):
    """How many rows of a table were given other values, partitions and heirs included."""

    table: str
    columns: tuple[str, ...]
    rows: int
