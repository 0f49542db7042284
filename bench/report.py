"""Tables of results, for the terminal and for `docs/benchmarks.md`."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table as RichTable


@dataclass(frozen=True)
class Table:
    """One comparison."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str]

    def show(self, console: Console) -> None:
        """Print it."""
        table = RichTable(title=self.title, title_justify="left")
        for position, column in enumerate(self.columns):
            table.add_column(column, justify="right" if position else "left")
        for row in self.rows:
            table.add_row(*row)
        console.print(table)
        for note in self.notes:
            console.print(f"  {note}", highlight=False)

    def markdown(self) -> str:
        """The same as Markdown."""
        lines = [f"## {self.title}", "", line(self.columns)]
        lines.append(line(["---", *["---:"] * (len(self.columns) - 1)]))
        lines += [line(row) for row in self.rows]
        lines += ["", *[f"- {note}" for note in self.notes], ""]
        return "\n".join(lines)


def line(cells: list[str]) -> str:
    """One row of a Markdown table."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def compare(
    title: str,
    taken: dict[str, list[dict[str, float]]],
    ours: str,
    measures: dict[str, tuple[str, Callable[[float], str]]],
    notes: list[str],
    what: str,
) -> Table:
    """A column for each: the medians, and how ours compares, by the medians within a round."""
    rows = []
    for measure, (name, show) in measures.items():
        cells = []
        for who, found in taken.items():
            middle = statistics.median(each[measure] for each in found)
            pairs = zip(taken[ours], found, strict=True)
            ratios = [a[measure] / b[measure] for a, b in pairs if b[measure]]
            compared = f" ({statistics.median(ratios):.2f})" if ratios and who != ours else ""
            cells.append(f"{show(middle)}{compared}" if middle or ratios else "-")
        rows.append([name, *cells])
    rounds = len(taken[ours])
    return Table(
        title=title,
        columns=["median", *taken],
        rows=rows,
        notes=[
            f"{what} {rounds} rounds, in turn, on this machine.",
            f"In brackets: {ours} divided by it, the median of the ratios within a round.",
            *notes,
        ],
    )
