"""Samples of rows that several processes check and encode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datamodules.prepare.kept_results import Result
from datamodules.prepare.row_writer import Record, Sample
from datamodules.prepare.rows import SourceRow
from datamodules.prepare.workers import Workers


@dataclass(frozen=True, slots=True)
class RowTask:
    """Row to be checked, and encoded if it is good.

    Attributes:
        row: with the faults found so far.
        encoded: False after a fault that stops the run: nothing will be written.
        identity: see `Task`.
    """

    row: SourceRow
    encoded: bool
    identity: str | None


@dataclass(frozen=True, slots=True)
class _WorkedRecord:
    """Record of a sample as a process made it."""

    key: str
    content: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON types."""
        return self.content


def row_result(row: SourceRow, record: Record, members: Mapping[str, bytes]) -> Result:
    """The result of a row: its faults, its record, and its files by their suffixes; none where it is not encoded."""
    faults = [[fault.field, fault.why] for fault in row.faults]
    return Result({"faults": faults, "key": record.key, "row": record.to_json()}, dict(members))


class WorkedRows:
    """Samples of rows, asked for in order.

    Args:
        rows: all of them.
        skip_bad: go on after a fault.
        workers: make of a `RowTask` a `row_result`.
        identity: of a row, see `Task`.
    """

    def __init__(
        self, rows: Sequence[SourceRow], skip_bad: bool, workers: Workers, identity: Callable[[SourceRow], str | None]
    ) -> None:
        self.rows, self.skip_bad, self.identity = rows, skip_bad, identity
        self._results = workers.results(self._tasks())
        self._stopped = not skip_bad and any(row.faults for row in rows)

    def __call__(self, row: SourceRow) -> Iterator[Sample]:
        """The sample of a row; none where it has a fault, which is noted."""
        if not row.data:
            return
        result = next(self._results)
        for name, why in result.facts["faults"]:
            row.refuse(name, why)
        self._stopped = self._stopped or bool(row.faults and not self.skip_bad)
        if not row.faults and result.members:
            yield Sample(_WorkedRecord(result.facts["key"], result.facts["row"]), lambda: result.members)

    def _tasks(self) -> Iterator[RowTask]:
        for row in self.rows:
            if row.data:
                kept = not self._stopped and not row.faults
                yield RowTask(row, not self._stopped, self.identity(row) if kept else None)
