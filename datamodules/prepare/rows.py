"""Rows of annotation files, JSON lines, and what is wrong with each."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datamodules.prepare.templates import Texts
from datamodules.user_files import user_file
from datamodules.video.facts import Fault, VideoFacts
from datamodules.vista.texts import is_blank

#: In place of a video that could not be read, so that the row's other fields are still checked.
UNKNOWN_VIDEO = VideoFacts(frames=10**9, fps=1.0, width=10**9, height=10**9)


@dataclass(slots=True)
class SourceRow:
    """Row of an annotation file, with the faults noted so far.

    Attributes:
        number: the line's number in its file, from 1; 0 where it is not a line of a file.
        line: the line as it was read.
        data: its JSON object; empty when the line holds none.
        faults: everything wrong with it, under the annotation file's own field names.
        name: what messages call it where it is not a line of a file.
        stripped: field -> the text that is taken in place of the one in `data`, a chat template around it removed.
    """

    number: int
    line: str
    data: dict[str, Any]
    faults: list[Fault] = field(default_factory=list)
    name: str = ""
    stripped: dict[str, str] = field(default_factory=dict)

    def refuse(self, name: str, why: str) -> None:
        """Note a fault of one field; the same one counts once."""
        fault = Fault(name, why)
        if fault not in self.faults:
            self.faults.append(fault)

    def refuse_all(self, faults: Iterable[Fault], names: Mapping[str, str]) -> None:
        """Note faults of a `PreferenceRow` under the file's own field names, except of fields already refused."""
        # A field that was refused has a blank value in the row, whose own faults would only confuse.
        known = {fault.field for fault in self.faults}
        renamed = [Fault(names.get(fault.field, fault.field), fault.why) for fault in faults]
        self.faults += [fault for fault in renamed if fault.field not in known]

    def text(self, name: str) -> str:
        """A text that must be there and not empty; "" after noting that it is not."""
        text = self.optional_text(name)
        if self.data.get(name) is None:
            self.refuse(name, "is missing")
        elif text is not None and is_blank(text):
            self.refuse(name, "is empty; give the text, or leave the row out")
        return text or ""

    def optional_text(self, name: str) -> str | None:
        """A text, or None where the field is absent, null, or (then a fault is noted) something else."""
        value = self.stripped.get(name, self.data.get(name))
        if value is None:
            return None
        if not isinstance(value, str):
            self.refuse(name, f"is not text but {json.dumps(value)[:40]}")
            return None
        # JSON's escapes can write one alone, which fails only when the text is encoded, in the middle of writing.
        if not value.isascii() and re.search("[\ud800-\udfff]", value):
            self.refuse(name, "has half a surrogate pair, which no encoding can hold")
            return None
        return value

    def record(self) -> dict[str, Any]:
        """Line of the list of skipped rows: which row, its faults, and its content to be corrected.

        A video that was found in a folder is in no row; its content names it.
        """
        return {
            "row": self.number or None,
            "faults": [{"field": fault.field, "why": fault.why} for fault in self.faults],
            "content": self.data or self.line,
        }

    def __str__(self) -> str:
        if self.name:
            return self.name
        name = self.data.get("id")
        return f"row {self.number} ({name})" if isinstance(name, str) and name else f"row {self.number}"


def finite(value: object) -> float | None:
    """The number as a float; None for text, booleans, NaN, infinities and integers beyond all floats."""
    # A bool is an int to Python.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def sample_key(path: Path, row: SourceRow) -> str:
    """The sample's name: annotation file and line. It stays the same when other rows are fixed or skipped."""
    return f"{key_part(path.stem)}-{row.number:06d}"


def key_part(name: str) -> str:
    """A file's name within a key; what a key cannot hold is replaced, and a hash of the name keeps it unique."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:60]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def read_rows(path: Path, unique: Sequence[str], texts: Texts | None = None) -> list[SourceRow]:
    """The lines of an annotation file, blank ones left out, with the faults that need no video.

    Args:
        path: a JSONL file.
        unique: the fields that together name a row; later rows that repeat them are faults. None: rows may repeat.
        texts: its texts, and what becomes of chat templates around them; None = it has none.

    Raises:
        ValueError: no such file, not UTF-8, or no rows.
    """
    try:
        # Not `splitlines`, which also splits at characters that JSON allows within a text (U+2028).
        lines = user_file(path).read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file; give the JSONL of annotations") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not UTF-8 text ({error})") from error
    rows = [_parsed(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise ValueError(f"{path}: holds no rows; give one JSON object a line")
    if texts is not None:
        texts.clean(path, rows)
    first: dict[str, int] = {}
    for row in rows:
        if not unique or not all(isinstance(row.data.get(name), str) for name in unique):
            continue
        name = json.dumps([row.stripped.get(name, row.data[name]) for name in unique])
        if name in first:
            row.refuse(unique[-1], f"repeats row {first[name]}: the same {' and '.join(unique)}")
        first.setdefault(name, row.number)
    return rows


def _parsed(number: int, line: str) -> SourceRow:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        return SourceRow(number, line, {}, [Fault("line", f"is not JSON ({error})")])
    if not isinstance(data, dict) or not data:
        return SourceRow(number, line, {}, [Fault("line", "is not a JSON object with fields")])
    return SourceRow(number, line, data)
