"""Published tables as data: read, checked, and compared with our numbers.

Each file in `papers/` is a paper; its first lines name the source of its numbers. A row is addressed as
PAPER/TABLE/ROW: `vista_dpo/table1/Video-LLaVA + VistaDPO`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from benchmarks.base.paper_protocol import Protocol
from benchmarks.base.results import number_at

FOLDER = Path(__file__).parents[1] / "papers"


@dataclass(frozen=True, slots=True)
class Column:
    """Column of a table, with the meaning of its numbers.

    Attributes:
        name: as the table heads it.
        meaning: in words, with the better direction.
        benchmark: our benchmark that measures it; None = nothing here does.
        score: its address in that benchmark's results, "PART/SCORE".
        scale: our number times this is on the paper's scale.
        digits: after the decimal point, as printed.
        low: the smallest possible number.
        high: the largest possible number.
        judged: whether it is made of a judge's verdicts.
    """

    name: str
    meaning: str
    benchmark: str | None = None
    score: str | None = None
    scale: float = 1.0
    digits: int = 1
    low: float = 0.0
    high: float = 100.0
    judged: bool = False


@dataclass(frozen=True, slots=True)
class PaperTable:
    """Table of a paper.

    Attributes:
        paper: the paper's name, with its arXiv number.
        number: as the paper numbers it, "1" or "3b".
        title: its topic.
        columns: in the paper's order.
        rows: name -> its numbers by column; None where the paper has none.
        parameters: row -> the number of its model's parameters, where that is known.
        protocols: benchmark -> the paper's protocol.
    """

    paper: str
    number: str
    title: str
    columns: tuple[Column, ...]
    rows: Mapping[str, tuple[float | None, ...]]
    parameters: Mapping[str, float]
    protocols: Mapping[str, Protocol]

    @property
    def source(self) -> str:
        """Paper and number."""
        return f"{self.paper}, table {self.number}"


@dataclass(frozen=True, slots=True)
class PaperRow:
    """Row of a table."""

    table: PaperTable
    name: str

    def of(self, benchmark: str) -> list[tuple[Column, float | None]]:
        """The columns that a benchmark measures, with the row's numbers."""
        row = zip(self.table.columns, self.table.rows[self.name], strict=True)
        return [(column, value) for column, value in row if column.benchmark == benchmark]

    def compared(self, benchmark: str, results: Mapping[str, Any], ours: Protocol) -> dict[str, Any]:
        """Our numbers and the row's, as plain types.

        Args:
            benchmark: the columns to compare are those that it measures.
            results: ours.
            ours: the protocol by which they were measured.

        Returns:
            "source", "row", "columns", "numbers": a list of {"column", "meaning", "score", "digits", "ours", "paper",
            "difference" = ours minus the paper's}, on the paper's scale; "not_comparable": reasons, empty when the
            number was measured as the paper's.
        """
        numbers, columns = [], self.of(benchmark)
        for column, paper in columns:
            raw = number_at(results, column.score or "")
            scaled = None if raw is None else raw * column.scale
            numbers.append(
                {
                    "column": column.name,
                    "meaning": column.meaning,
                    "score": column.score,
                    "digits": column.digits,
                    "ours": scaled,
                    "paper": paper,
                    "difference": None if scaled is None or paper is None else scaled - paper,
                }
            )
        # The size is the row's, not the table's: one table compares models of several sizes.
        protocol = self.table.protocols.get(benchmark, Protocol())
        theirs = replace(protocol, parameters=self.table.parameters.get(self.name))
        # A judged column without a number of ours makes nothing incomparable.
        judged = any(column.judged and number_at(results, column.score or "") is not None for column, _ in columns)
        reasons = list(theirs.differences(ours, judged))
        return {
            "source": self.table.source,
            "row": self.name,
            "columns": benchmark,
            "numbers": numbers,
            "not_comparable": reasons,
        }


def find_row(address: str, benchmark: str | None = None) -> PaperRow:
    """The row at PAPER/TABLE/ROW; a row's name may hold slashes.

    Args:
        address: of the row.
        benchmark: refuse a row without numbers of this benchmark; None = any row.

    Raises:
        ValueError: there is no such row, or nothing in it that the benchmark measures.
    """
    paper, _, table_and_row = address.partition("/")
    table, _, row = table_and_row.partition("/")
    papers = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    if paper not in papers:
        raise ValueError(f"no paper {paper!r} (in {address!r}, PAPER/TABLE/ROW); there are {', '.join(papers)}")
    tables = _published(FOLDER / f"{paper}.yaml")
    if table not in tables:
        raise ValueError(f"{paper} has no table {table!r}; it has {', '.join(tables)}")
    if row not in tables[table].rows:
        raise ValueError(f"{paper}/{table} has no row {row!r}; it has: {'; '.join(tables[table].rows)}")
    paper_row = PaperRow(tables[table], row)
    if benchmark is not None and not paper_row.of(benchmark):
        measured = sorted({column.benchmark for column in tables[table].columns if column.benchmark})
        raise ValueError(f"{paper}/{table} has no number of {benchmark}; it is about {', '.join(measured) or 'others'}")
    return paper_row


@cache
def _published(path: Path) -> dict[str, PaperTable]:
    """The tables of one of the papers, read once: a report asks for several rows."""
    return read_paper(path)


def read_paper(path: Path) -> dict[str, PaperTable]:
    """All tables of a paper, by their names, checked.

    Raises:
        ValueError: lists every fault: a row of another length than the columns, a number outside its column's range,
            an unknown field, a table or column without its meaning.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    faults: list[str] = []
    columns = {name: _column(name, column, faults) for name, column in content["columns"].items()}
    paper = f"{content['paper']} (arXiv {content['arxiv']})"
    tables = {name: _table(paper, name, table, columns, content, faults) for name, table in content["tables"].items()}
    if faults:
        raise ValueError(f"{path} has {len(faults)} faults:\n  " + "\n  ".join(faults))
    return tables


def _column(name: str, entry: Mapping[str, Any], faults: list[str]) -> Column:
    """A column from its YAML; what is wrong with it is added to `faults`."""
    unknown = set(entry) - {"heading", "meaning", "benchmark", "score", "scale", "digits", "low", "high", "judged"}
    if unknown or not entry.get("meaning"):
        faults.append(f"column {name}: {'no field ' + ', '.join(sorted(unknown)) if unknown else 'has no meaning'}")
    if ("benchmark" in entry) != ("score" in entry):
        faults.append(f"column {name}: benchmark and score belong together")
    # Without what is unknown, so that the column can be made and its other faults are listed, too.
    fields = {key: value for key, value in entry.items() if key not in unknown | {"heading", "meaning"}}
    return Column(name=str(entry.get("heading", name)), meaning=str(entry.get("meaning", "")), **fields)


def _table(
    paper: str,
    key: str,
    entry: Mapping[str, Any],
    columns: Mapping[str, Column],
    content: Mapping[str, Any],
    faults: list[str],
) -> PaperTable:
    """A table from its YAML and the paper's; what is wrong with it is added to `faults`."""
    unknown = [name for name in entry["columns"] if name not in columns]
    faults += [f"{key}: no column {name}" for name in unknown]
    known_columns = tuple(columns[name] for name in entry["columns"] if name not in unknown)
    rows = {str(row): tuple(values) for row, values in entry["rows"].items()}
    for row, values in rows.items():
        if len(values) != len(entry["columns"]):
            faults.append(f"{key}, row {row}: {len(values)} numbers for {len(entry['columns'])} columns")
        faults += _out_of_range(f"{key}, row {row}", known_columns, values)
    if not str(entry.get("number", "")) or not entry.get("title"):
        faults.append(f"{key}: needs its number and a title")
    # A size belongs to the rows of its family, "Video-LLaVA" and "Video-LLaVA + VistaDPO", or to a whole table.
    sizes = {row: float(size) for family, size in content.get("parameters", {}).items() for row in rows
             if row == family or row.startswith(f"{family} + ") or entry.get("model") == family}  # fmt: skip
    protocols = {
        name: Protocol(
            annotations=how.get("annotations"),
            questions=how.get("questions"),
            settings=how.get("settings"),
            judge=how.get("judge"),
            remarks=(*how.get("remarks", ()), *entry.get("remarks", ())),
        )
        for name, how in content.get("protocols", {}).items()
    }
    return PaperTable(paper, str(entry.get("number")), str(entry.get("title")), known_columns, rows, sizes, protocols)


def _out_of_range(place: str, columns: Sequence[Column], values: Sequence[Any]) -> Iterator[str]:
    for column, value in zip(columns, values, strict=False):  # another length is a fault of its own
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if value is not None and not (is_number and column.low <= value <= column.high):
            yield f"{place}: {column.name} is {value!r}, not from {column.low:g} to {column.high:g}"
