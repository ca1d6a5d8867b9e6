"""Predicted rows as JSON lines: each on disk when it is made, joined when all are there."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from callbacks.writers.base import refuse_other_settings, write_unnoticed
from callbacks.writers.joined import JoinedWriter
from callbacks.writers.parts import PartLines, read_rows
from datamodules.stream.predict_outputs import SkippableData, WrittenRow

#: Why a row is left out whose video could not be read; the reasons are in the run's bad_samples.json.
_UNREADABLE = "could not be read"


class JsonlWriter(JoinedWriter):
    """JSONL writer callback: the `WrittenRow`s of `predict_step` as lines of ``OUTPUT``, which ends with .jsonl.

    Each process appends its rows to a file of its own in ``OUTPUT.parts``. When all are there rank 0 joins them in the
    source's order and removes the parts; rows that are left out go to ``NAME.left_out.jsonl``, and counts and settings
    to ``NAME.report.json``, which are there before the rows are. The same command again continues an interrupted run,
    with any number of ranks; when all is done it prints the counts again.

    Args:
        output: the file; on a file system that all ranks see.

    Raises:
        ValueError: it has another ending.
    """

    noun = "rows"

    def __init__(self, output: str) -> None:
        super().__init__(output)
        if self.output.suffix != ".jsonl":
            raise ValueError(f"trainer.callbacks.JsonlWriter.output is {output}; give a file that ends with .jsonl")
        self.left_out = self.output.with_suffix(".left_out.jsonl")
        self.report = self.output.with_suffix(".report.json")

    @property
    def place(self) -> Path:
        """The parts while there are some, then the file."""
        return self.output if self.is_finished else self.parts

    @property
    def is_finished(self) -> bool:
        """Whether the file and its report are there."""
        return self.output.exists() and self.report.exists()

    def check_finished(self, data: SkippableData) -> None:
        """Refuse a file of other settings.

        Raises:
            ValueError: says what differs.
        """
        former = json.loads(self.report.read_text(encoding="utf-8"))["made_from"]
        refuse_other_settings(self.output, former, self.settings, "choose another `output`, or delete this file")

    def outputs_in_the_way(self) -> list[Path]:
        """The file without a report; where nothing is begun, also what would be beside it."""
        outputs = (self.output,) if self.begun() else (self.output, self.left_out, self.report)
        return [path for path in outputs if path.exists()]

    def described_settings(self) -> Mapping[str, Any]:
        """What the rows are made from."""
        return self.settings

    def take_settings(self, settings: Mapping[str, Any]) -> None:
        """The parts' settings, which may say less than an up-to-date description."""
        self.settings = settings

    def written(self) -> Collection[str]:
        """The keys of the rows among the parts."""
        return read_rows(self.parts).keys()

    def write(self, sample: WrittenRow) -> None:
        """Add a row to this process's file."""
        self.append({"key": sample.key, "row": sample.row, "outcomes": sample.outcomes, "why": sample.why})

    def part_file(self) -> PartLines:
        """Lines of rows."""
        return PartLines(self.parts)

    def join(self, keys: Sequence[str], skipped: Collection[str]) -> None:
        """Write the rows in the source's order, those that are left out, and the report."""
        rows = read_rows(self.parts)
        parts = [rows[key] for key in keys]
        written = [part["row"] for part in parts if part["row"] is not None]
        left_out = [{"key": part["key"], "why": part["why"]} for part in parts if part["row"] is None]
        left_out += [{"key": key, "why": _UNREADABLE} for key in sorted(skipped)]
        outcomes: dict[str, Counter[str]] = {}
        for part in parts:
            for name, outcome in part["outcomes"].items():
                outcomes.setdefault(name, Counter())[outcome] += 1
        report = {
            "rows": {"written": len(written), "left out": len(left_out), "of which unread": len(skipped)},
            "outcomes": outcomes,
            "made_from": self.settings,
        }
        write_unnoticed(self.left_out, _lines(left_out))
        write_unnoticed(self.report, json.dumps(report, indent=2).encode())
        # Last: with the report beside it, it says that all is done. Without a row there is no file.
        if written:
            write_unnoticed(self.output, _lines(written))

    def report_result(self, data: SkippableData | None) -> None:
        """Print what became of the rows.

        Raises:
            ValueError: no row is left.
        """
        report = json.loads(self.report.read_text(encoding="utf-8"))
        print(described(report["rows"], report["outcomes"]))
        if not report["rows"]["written"]:
            raise ValueError(f"{self.output}: no row was kept, so there is nothing to write; {self.left_out} says why")
        # Paths in the rows begin where those of the source's rows do.
        folder = getattr(data, "folder", None)
        videos = "" if folder is None else f" --videos {shlex.quote(str(folder))}"
        print(f"shards of them: vidpref prepare jsonl {shlex.quote(str(self.output))} SHARDS{videos}")


def described(rows: Mapping[str, int], outcomes: Mapping[str, Mapping[str, int]]) -> str:
    """Counts of rows and of what became of their parts, a line each."""
    lines = [", ".join(f"{count} {what}" for what, count in rows.items())]
    for name, counts in sorted(outcomes.items()):
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        lines.append(f"{name}: " + ", ".join(f"{count} {outcome}" for outcome, count in ordered))
    return "rows: " + "\n  ".join(lines)


def _lines(rows: Collection[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
