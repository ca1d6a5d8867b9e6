"""A report's tables, in the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table as RichTable


@dataclass(frozen=True, slots=True)
class Cell:
    """A number of a table: how it reads, as a share of 100 where a bar makes sense, and whether none is better."""

    text: str
    share: float | None = None
    best: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A run's line in a table."""

    name: str
    color: str
    cells: list[Cell]


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first name of the header stands over the runs."""

    header: tuple[str, ...]
    rows: list[Row]

    def markdown(self) -> str:
        """The table in Markdown, the best numbers bold."""
        lines = [self.header, ("---", *["---:"] * (len(self.header) - 1))]
        lines += [(row.name, *(f"**{c.text}**" if c.best else c.text for c in row.cells)) for row in self.rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def show(self, console: Console) -> None:
        """Print the table."""
        table = RichTable()
        table.add_column(self.header[0], overflow="fold")  # a name that ends in dots is none
        for name in self.header[1:]:
            table.add_column(name, justify="right", min_width=max(map(len, name.split())))
        for row in self.rows:
            table.add_row(row.name, *(f"[bold]{cell.text}[/bold]" if cell.best else cell.text for cell in row.cells))
        console.print(table)


def shares(values: Sequence[float | None], form: Literal["percent", "plain"], bars: bool) -> list[Cell]:
    """A column of shares; the largest is the best where there is something to be better than."""
    known = [value for value in values if value is not None]
    largest = max(known) if len(set(known)) > 1 else None
    return [
        Cell("-")
        if value is None
        else Cell(
            f"{100 * value:.1f}" if form == "percent" else f"{value:.3f}",
            100 * value if bars else None,
            largest is not None and value == largest,
        )
        for value in values
    ]
