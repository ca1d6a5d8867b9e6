"""A report's tables, in the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

#: Wider than any table: rich measures no more than it is allowed.
_ANY_WIDTH = 10_000


@dataclass(frozen=True, slots=True)
class Cell:
    """Cell of a table.

    Attributes:
        text: the number as text, perhaps with its interval and mark.
        share: the number as a share of 100, for a bar; None = no bar.
        best: whether no number of the column is better.
    """

    text: str
    share: float | None = None
    best: bool = False

    @property
    def number(self) -> str:
        """The text without interval and mark."""
        return self.text.removesuffix(self.within) if self.within else self.text

    @property
    def within(self) -> str:
        """The interval in brackets and the mark, which a page shows in small letters below the number; "" = none."""
        starts = [start for sign in (" (", ", ") if (start := self.text.find(sign)) > 0]
        return self.text[min(starts) :] if starts else ""


@dataclass(frozen=True, slots=True)
class Row:
    """Row of a table: a run's name, its colour in charts, and its cells."""

    name: str
    color: str
    cells: list[Cell]


@dataclass(frozen=True, slots=True)
class Table:
    """Table of a report; the first name of the header is that of the column of runs."""

    header: tuple[str, ...]
    rows: list[Row]

    def markdown(self) -> str:
        """The table in Markdown, the best numbers bold."""
        lines = [self.header, ("---", *["---:"] * (len(self.header) - 1))]
        lines += [(row.name, *(f"**{c.text}**" if c.best else c.text for c in row.cells)) for row in self.rows]
        # A cell must hold neither a line's end nor a cell's.
        texts = [[" ".join(text.split()).replace("|", "\\|") for text in line] for line in lines]
        return "".join(f"| {' | '.join(line)} |\n" for line in texts)

    def show(self, console: Console) -> None:
        """Print the table; columns that do not fit into the terminal are in further tables below."""
        start, end = 0, len(self.header) - 1
        # As many columns as fit, at least one; then the others.
        while True:
            table = self._columns(start, end)
            needed = console.measure(table, options=console.options.update(max_width=_ANY_WIDTH)).minimum
            if needed <= console.width or end - start <= 1:
                console.print(table)
                start, end = end, len(self.header) - 1
                if start >= end:
                    return
            else:
                end -= 1

    def _columns(self, start: int, end: int) -> RichTable:
        """The names with the columns from start to end; no number is ever cut."""
        table = RichTable()
        table.add_column(Text(self.header[0]), overflow="fold")  # by default rich would cut long names
        for column in range(start, end):
            words = [*self.header[1 + column].split(), *(row.cells[column].text for row in self.rows)]
            table.add_column(Text(self.header[1 + column]), justify="right", min_width=max(map(len, words)))
        for row in self.rows:
            cells = [Text(cell.text, style="bold" if cell.best else "") for cell in row.cells[start:end]]
            table.add_row(Text(row.name), *cells)
        return table


def shares(values: Sequence[float | None], form: Literal["percent", "plain"], bars: bool) -> list[Cell]:
    """A column of shares; the largest is the best, unless all are equal."""
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
