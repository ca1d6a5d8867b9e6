"""Published tables as data: read, checked, and put beside our numbers.

Each file in `papers/` is a paper; its first lines say where its numbers are from. A row is addressed as
PAPER/TABLE/ROW: `vista_dpo/table1/Video-LLaVA + VistaDPO`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.base.paper_protocol import Protocol
from benchmarks.base.results import number_at

FOLDER = Path(__file__).parents[1] / "papers"


@dataclass(frozen=True, slots=True)
class Column:
    """What a number of a table means.

    Attributes:
        name: as the table heads it.
        meaning: in words, with the direction that is better.
        benchmark: our benchmark that measures it; None = nothing here does.
        score: where it is in that benchmark's results, "PART/SCORE".
        scale: ours times this is the paper's.
        digits: behind the point, as printed.
        low: the least that the number can be.
        high: the most that it can be.
        judged: it is made of a judge's verdicts.
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
    """One table of a paper.

    Attributes:
        paper: the paper's name, with its arXiv number.
        number: as the paper numbers it, "1" or "3b".
        title: what it is about.
        columns: in the paper's order.
        rows: name -> its numbers by column; None where the paper has none.
        parameters: row -> how large its model is, where that is known.
        protocols: benchmark -> how the paper measured.
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
    """A row, to compare with."""

    table: PaperTable
    name: str

    def of(self, benchmark: str) -> list[tuple[Column, float | None]]:
        """The columns that a benchmark measures, with the row's numbers."""
        every = zip(self.table.columns, self.table.rows[self.name], strict=True)
        return [(column, value) for column, value in every if column.benchmark == benchmark]

    def compared(self, benchmark: str, results: Mapping[str, Any], ours: Protocol) -> dict[str, Any]:
        """Our numbers beside the row's, as plain types.

        Returns:
            "source", "row", "columns", "numbers": a list of {"column", "meaning", "score", "digits", "ours", "paper",
            "difference" = ours minus the paper's}, on the paper's scale; "not_comparable": reasons, empty when the
            number was measured as the paper's.
        """
        numbers, own = [], self.of(benchmark)
        for column, paper in own:
            raw = number_at(results, column.score or "")
            mine = None if raw is None else raw * column.scale
            numbers.append(
                {
                    "column": column.name,
                    "meaning": column.meaning,
                    "score": column.score,
                    "digits": column.digits,
                    "ours": mine,
                    "paper": paper,
                    "difference": None if mine is None or paper is None else mine - paper,
                }
            )
        known = self.table.protocols.get(benchmark, Protocol())
        theirs = replace(known, parameters=self.table.parameters.get(self.name))
        judged = any(column.judged and number_at(results, column.score or "") is not None for column, _ in own)
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
        benchmark: refuse a row without numbers of this benchmark; None = take any.

    Raises:
        ValueError: there is no such row, or nothing in it that the benchmark measures.
    """
    paper, _, rest = address.partition("/")
    table, _, row = rest.partition("/")
    have = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    if paper not in have:
        raise ValueError(f"no paper {paper!r} (in {address!r}, PAPER/TABLE/ROW); there are {', '.join(have)}")
    tables = read_paper(FOLDER / f"{paper}.yaml")
    if table not in tables:
        raise ValueError(f"{paper} has no table {table!r}; it has {', '.join(tables)}")
    if row not in tables[table].rows:
        raise ValueError(f"{paper}/{table} has no row {row!r}; it has: {'; '.join(tables[table].rows)}")
    found = PaperRow(tables[table], row)
    if benchmark is not None and not found.of(benchmark):
        measured = sorted({column.benchmark for column in tables[table].columns if column.benchmark})
        raise ValueError(f"{paper}/{table} has no number of {benchmark}; it is about {', '.join(measured) or 'others'}")
    return found


def read_paper(path: Path) -> dict[str, PaperTable]:
    """All tables of a paper, by their names, checked.

    Raises:
        ValueError: lists every fault: a row of another length than the columns, a number outside its column's range,
            an unknown field, a table or column without its meaning.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    faults: list[str] = []
    columns = {name: _column(name, one, faults) for name, one in content["columns"].items()}
    found = {
        name: _table(f"{content['paper']} (arXiv {content['arxiv']})", name, one, columns, content, faults)
        for name, one in content["tables"].items()
    }
    if faults:
        raise ValueError(f"{path} has {len(faults)} faults:\n  " + "\n  ".join(faults))
    return found


def _column(name: str, one: Mapping[str, Any], faults: list[str]) -> Column:
    unknown = set(one) - {"heading", "meaning", "benchmark", "score", "scale", "digits", "low", "high", "judged"}
    if unknown or not one.get("meaning"):
        faults.append(f"column {name}: {'no field ' + ', '.join(sorted(unknown)) if unknown else 'has no meaning'}")
    if ("benchmark" in one) != ("score" in one):
        faults.append(f"column {name}: benchmark and score belong together")
    kept = {key: value for key, value in one.items() if key not in unknown | {"heading", "meaning"}}
    return Column(name=str(one.get("heading", name)), meaning=str(one.get("meaning", "")), **kept)


def _table(
    paper: str,
    key: str,
    one: Mapping[str, Any],
    columns: Mapping[str, Column],
    content: Mapping[str, Any],
    faults: list[str],
) -> PaperTable:
    unknown = [name for name in one["columns"] if name not in columns]
    faults += [f"{key}: no column {name}" for name in unknown]
    own = tuple(columns[name] for name in one["columns"] if name not in unknown)
    rows = {str(row): tuple(values) for row, values in one["rows"].items()}
    for row, values in rows.items():
        if len(values) != len(one["columns"]):
            faults.append(f"{key}, row {row}: {len(values)} numbers for {len(one['columns'])} columns")
        faults += _out_of_range(f"{key}, row {row}", own, values)
    if not str(one.get("number", "")) or not one.get("title"):
        faults.append(f"{key}: needs its number and a title")
    sizes = {row: float(size) for family, size in content.get("parameters", {}).items() for row in rows
             if row == family or row.startswith(f"{family} + ") or one.get("model") == family}  # fmt: skip
    protocols = {
        name: Protocol(
            annotations=how.get("annotations"),
            questions=how.get("questions"),
            settings=how.get("settings"),
            judge=how.get("judge"),
            remarks=(*how.get("remarks", ()), *one.get("remarks", ())),
        )
        for name, how in content.get("protocols", {}).items()
    }
    return PaperTable(paper, str(one.get("number")), str(one.get("title")), own, rows, sizes, protocols)


def _out_of_range(place: str, columns: Sequence[Column], values: Sequence[Any]) -> Iterator[str]:
    for column, value in zip(columns, values, strict=False):
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if value is not None and not (number and column.low <= value <= column.high):
            yield f"{place}: {column.name} is {value!r}, not from {column.low:g} to {column.high:g}"
