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
    """Medians of each, and the medians of the ratios within a round."""
    others = [contender for contender in taken if contender != ours]
    rows = []
    for measure, (name, show) in measures.items():
        row = [name]
        for found in taken.values():
            middle = statistics.median(each[measure] for each in found)
            row.append(show(middle) if middle or measure == "temporary" else "-")
        for other in others:
            pairs = zip(taken[ours], taken[other], strict=True)
            ratios = [a[measure] / b[measure] for a, b in pairs if b[measure]]
            row.append(f"{statistics.median(ratios):.2f}" if ratios else "-")
        rows.append(row)
    rounds = len(taken[ours])
    return Table(
        title=title,
        columns=["median", *taken, *(f"to {other}" for other in others)],
        rows=rows,
        notes=[
            f"{what} {rounds} rounds, in turn, on this machine.",
            f"`to X` is {ours} divided by X: the median of the ratios within a round.",
            *notes,
        ],
    )
