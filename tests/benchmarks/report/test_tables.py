"""A table in the terminal and in Markdown."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from benchmarks.report.tables import Cell, Row, Table


def wide_table() -> Table:
    rows = [Row(f"[bold]run|{n}[0]", "red", [Cell(f"{n}{column}.5") for column in range(10, 22)]) for n in range(2)]
    return Table(("run", *(f"Video-LLaVA + VistaDPO {column}" for column in range(12))), rows)


@pytest.mark.parametrize("width", [40, 60, 100, 400])
def test_a_narrow_terminal_cuts_no_number_and_no_name(width: int) -> None:
    console = Console(width=width, file=io.StringIO())
    wide_table().show(console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(cell.text in shown for row in wide_table().rows for cell in row.cells)
    assert max(map(len, shown.splitlines())) <= width
    assert "[bold]run|1[0]" in shown or width < 100, "a name may be folded"


def test_names_do_not_break_the_markdown() -> None:
    header, _, *rows = wide_table().markdown().splitlines()
    assert all(line.replace("\\|", "").count("|") == header.count("|") for line in rows)
