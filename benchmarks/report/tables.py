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
    """A number of a table: how it reads, as a share of 100 where a bar makes sense, and whether none is better."""

    text: str
    share: float | None = None
    best: bool = False

    @property
    def number(self) -> str:
        """The text without what `within` has of it."""
        return self.text.removesuffix(self.within) if self.within else self.text

    @property
    def within(self) -> str:
        """The interval in brackets and the mark, which a page shows in small below the number; "" = none."""
        starts = [at for sign in (" (", ", ") if (at := self.text.find(sign)) > 0]
        return self.text[min(starts) :] if starts else ""


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
        return "".join(f"| {' | '.join(map(_in_markdown, line))} |\n" for line in lines)

    def show(self, console: Console) -> None:
        """Print the table; columns that the terminal is too narrow for stand in further tables below."""
        start, end = 0, len(self.header) - 1
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
        """The names, and these of the other columns; no number is ever cut."""
        table = RichTable()
        table.add_column(Text(self.header[0]), overflow="fold")  # a name that ends in dots is none
        for number in range(start, end):
            words = [*self.header[1 + number].split(), *(row.cells[number].text for row in self.rows)]
            table.add_column(Text(self.header[1 + number]), justify="right", min_width=max(map(len, words)))
        for row in self.rows:
            cells = [Text(cell.text, style="bold" if cell.best else "") for cell in row.cells[start:end]]
            table.add_row(Text(row.name), *cells)
        return table


def _in_markdown(text: str) -> str:
    """A cell's text, which must hold neither a line's end nor a cell's."""
    return " ".join(text.split()).replace("|", "\\|")


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
