"""Predicted rows as JSON lines: each written when it is made, joined when all are there."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from callbacks.writers.base import PARTIAL, PredictWriter, refuse_other_settings, write_unnoticed
from datamodules.shards.index import digest
from datamodules.stream.predict_outputs import SkippableData, WrittenRow

_SETTINGS = "settings.json"
_PART = ".row.json"
#: Why a row is left out whose video could not be read; the reasons are in the run's bad_samples.json.
_UNREADABLE = "could not be read"


class JsonlWriter(PredictWriter):
    """JSONL writer callback: the `WrittenRow`s of `predict_step` as lines of ``OUTPUT``, which ends with .jsonl.

    Each row is at once a file of its own in ``OUTPUT.parts``. When all are there rank 0 joins them in the source's
    order and removes the parts; rows that are left out go to ``NAME.left_out.jsonl``, and counts and settings to
    ``NAME.report.json``, which are there before the rows are. The same command again continues an interrupted run, with
    any number of ranks; when all is done it prints the counts again.

    Args:
        output: the file; on a file system that all ranks see.

    Raises:
        ValueError: it has another ending.
    """

    noun = "rows"

    def __init__(self, output: str) -> None:
        self.output = Path(output)
        if self.output.suffix != ".jsonl":
            raise ValueError(f"trainer.callbacks.JsonlWriter.output is {output}; give a file that ends with .jsonl")
        self.parts = Path(f"{output}.parts")
        self.left_out = self.output.with_suffix(".left_out.jsonl")
        self.report = self.output.with_suffix(".report.json")

    @property
    def place(self) -> Path:
        """The parts while there are some, then the file."""
        return self.output if self._is_finished() else self.parts

    @property
    def locked(self) -> tuple[Path, bool]:
        """The file."""
        return self.output, False

    def begin(self, data: SkippableData) -> None:
        """Make the folder of parts, and clear what a kill left half-written."""
        if self._is_finished() or self._in_the_way():
            return
        self.parts.mkdir(parents=True, exist_ok=True)
        if not self._settings().exists():
            write_unnoticed(self._settings(), json.dumps(self.settings, indent=2).encode())
        for leftover in [*self.parts.iterdir(), *self.output.parent.iterdir()]:
            if PARTIAL.fullmatch(leftover.name):
                leftover.unlink()

    def check(self, data: SkippableData) -> None:
        """Refuse parts or a file of other settings, and files of others under the output's names.

        Raises:
            ValueError: says what differs and how to go on.
        """
        if self._is_finished():
            former = json.loads(self.report.read_text(encoding="utf-8"))["made_from"]
            refuse_other_settings(self.output, former, self.settings, "choose another `output`, or delete this file")
        elif paths := self._in_the_way():
            names = ", ".join(path.name for path in paths[:3])
            raise ValueError(f"{self.output.parent}: {names} lie in the way; choose another `output`, or delete them")
        else:
            former = json.loads(self._settings().read_text(encoding="utf-8"))
            remedy = "take those settings again to continue it, or delete that folder to begin again"
            refuse_other_settings(self.parts, former, self.settings, remedy)

    def finished(self, data: SkippableData) -> list[str]:
        """The rows that are there; all, where the file is."""
        if self._is_finished():
            return list(data.keys)
        names = {path.name for path in self.parts.iterdir()}
        return [key for key in data.keys if _name(key) in names]

    def write(self, sample: WrittenRow) -> None:
        """Write a row as a file of its own."""
        content = {"key": sample.key, "row": sample.row, "outcomes": sample.outcomes, "why": sample.why}
        write_unnoticed(self.parts / _name(sample.key), json.dumps(content).encode())

    def finish(self, data: SkippableData, skipped: Collection[str]) -> None:
        """Join the rows in the source's order, print what became of them, and remove the parts.

        Raises:
            ValueError: no row is left; says what became of them.
        """
        if not self._is_finished():
            self._join(self.finished(data), skipped)
        report = json.loads(self.report.read_text(encoding="utf-8"))
        print(described(report["rows"], report["outcomes"]))
        if not report["rows"]["written"]:
            raise ValueError(f"{self.output}: no row was kept, so there is nothing to write; {self.left_out} says why")
        # Paths in the rows begin where those of the source's rows do.
        folder = getattr(data, "folder", None)
        videos = "" if folder is None else f" --videos {shlex.quote(str(folder))}"
        print(f"shards of them: vidpref prepare jsonl {shlex.quote(str(self.output))} SHARDS{videos}")
        self._remove_parts()

    def _join(self, keys: list[str], skipped: Collection[str]) -> None:
        parts = [json.loads((self.parts / _name(key)).read_text(encoding="utf-8")) for key in keys]
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

    def _remove_parts(self) -> None:
        if not self.parts.is_dir():
            return
        for path in self.parts.iterdir():
            if path.name == _SETTINGS or path.name.endswith(_PART):
                path.unlink()
        with suppress(OSError):
            self.parts.rmdir()
        if self.parts.is_dir():
            rank_zero_warn(f"{self.parts} is left where it is: there are files in it that this run did not write")

    def _is_finished(self) -> bool:
        return self.output.exists() and self.report.exists()

    def _in_the_way(self) -> list[Path]:
        """Files under the output's names that no run of this writer made: they are neither used nor removed."""
        if self._settings().exists():
            return [self.output] if self.output.exists() else []
        others = list(self.parts.iterdir()) if self.parts.is_dir() else []
        named = [path for path in (self.output, self.left_out, self.report) if path.exists()]
        return named + sorted(path for path in others if not PARTIAL.fullmatch(path.name))

    def _settings(self) -> Path:
        return self.parts / _SETTINGS


def described(rows: Mapping[str, int], outcomes: Mapping[str, Mapping[str, int]]) -> str:
    """Counts of rows and of what became of their parts, a line each."""
    lines = [", ".join(f"{count} {what}" for what, count in rows.items())]
    for name, counts in sorted(outcomes.items()):
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        lines.append(f"{name}: " + ", ".join(f"{count} {outcome}" for outcome, count in ordered))
    return "rows: " + "\n  ".join(lines)


def _lines(rows: Collection[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _name(key: str) -> str:
    """The name of a row's part: keys may have any length."""
    return f"{digest(key.encode())}{_PART}"
