"""Judgements of people, the rows of a CSV of labels.

The CSV has a header and one row a judgement:

- ``key``: the pair's key in its shards;
- ``segment``: its number from 0 (segment k begins after k x segment_seconds), or ``whole`` for the whole video;
- ``label``: ``first``, ``second`` or ``tie`` (also 1, -1, 0): which of the pair's videos is better;
- ``annotator``, optional: who said so; then several rows may judge the same segment, one an annotator.

`vidpref label` writes four columns more, which a file may lack:

- ``side``: which of the pair's videos was shown on the left, ``first`` or ``second``;
- ``time``: when the answer was given, ISO 8601 with a time zone;
- ``seconds``: length of the segments that ``segment`` counts, empty for a whole video. Read for another length the file
  is refused: number 3 would be another second;
- ``repeat``: 0 for an annotator's first answer, 1 for the second one to the same question. Second answers say how
  consistent an annotator is; they are no second votes.

Of several annotators the label is the one that most of them gave. Where two labels share the first place it is a tie:
one for the first video and one for the second are a tie, one for the first and one tie are a tie, two for the first and
one tie are +1. The rule is ours; the paper (DenseDPO) has a reviewer look at its two labellers' work instead.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.csv_table import read_csv

#: The segment of a judgement on the whole video.
WHOLE = None

_LABELS = {"first": 1, "second": -1, "tie": 0, "1": 1, "+1": 1, "-1": -1, "0": 0}
_COLUMNS = ("key", "segment", "label")
_OPTIONAL = ("annotator", "side", "time", "seconds", "repeat")
#: All columns, in the order in which `vidpref label` writes them.
LABEL_COLUMNS = _COLUMNS + _OPTIONAL


class Place(NamedTuple):
    """What is judged: a segment of a pair, or (None) its whole video."""

    key: str
    segment: int | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """One row of the CSV.

    Attributes:
        line: its line in the file.
        place: what was judged.
        label: +1, 0 or -1.
        annotator: who said so; "" where the file does not say.
        side: the video that was shown on the left, "first" or "second"; "" where the file does not say.
        time: when it was given, ISO 8601; "" where the file does not say.
        repeat: 0 = the annotator's first answer to this question, 1 = the second one.
        seconds: length of the segments that are counted; None = the file does not say, or it is the whole video.
    """

    line: int
    place: Place
    label: int
    annotator: str = ""
    side: str = ""
    time: str = ""
    repeat: int = 0
    seconds: float | None = None


def read_judgements(path: str | Path, may_be_empty: bool = False) -> list[Judgement]:
    """The rows of a CSV of labels, as the module describes it; repeated answers are among them.

    Args:
        path: the file.
        may_be_empty: whether it may have no rows, as at the beginning of labelling.

    Raises:
        ValueError: lists every fault of every row.
    """
    path = Path(path)
    header, lines = read_csv(path, "the CSV of labels")
    _check_header(path, header)
    judgements: list[Judgement] = []
    faults: list[str] = []
    seen: dict[tuple[Place, str, int], int] = {}
    for line, row in ((line, _fields(row)) for line, row in lines):
        if not (reasons := _row_faults(row, "repeat" in header)):
            segment = WHOLE if row["segment"].lower() == "whole" else int(row["segment"])
            place, repeat = Place(row["key"], segment), int(row.get("repeat", 0))
            judgement = Judgement(
                line,
                place,
                _LABELS[row["label"].lower()],
                row.get("annotator", ""),
                row.get("side", "").lower(),
                row.get("time", ""),
                repeat,
                None if segment is WHOLE or not row.get("seconds") else float(row["seconds"]),
            )
            if (earlier := seen.setdefault((place, judgement.annotator, repeat), line)) != line:
                reasons = [f"repeats line {earlier}; one row for each segment and annotator"]
            judgements.append(judgement)
        faults += [f"line {line}: {reason}" for reason in reasons]
    # After all rows: a file that was sorted may have the second answer before the first.
    faults += [
        f"line {line}: repeat 1 of a segment that {annotator or 'nobody'} has no answer with repeat 0 of"
        for (place, annotator, repeat), line in seen.items()
        if repeat and (place, annotator, 0) not in seen
    ]
    if not lines and not may_be_empty:
        faults.append("holds no rows")
    if faults:
        raise ValueError("\n".join([f"{path}: fix these rows, nothing was written:", *faults]))
    return judgements


def segment_length(path: str | Path, judgements: Sequence[Judgement], asked: float | None = None) -> float | None:
    """The length of the segments that a CSV speaks of, seconds; None = it does not say.

    Args:
        path: of the CSV, for messages.
        judgements: its rows.
        asked: the length that it is read for; None = any.

    Raises:
        ValueError: it speaks of several lengths, or of another one.
    """
    lines: dict[float, int] = {}
    for judgement in judgements:
        if judgement.seconds is not None:
            lines.setdefault(judgement.seconds, judgement.line)
    if len(lines) > 1:
        places = " and ".join(f"{seconds:g} s (line {line})" for seconds, line in sorted(lines.items()))
        raise ValueError(
            f"{path}: its labels are of segments of {places}; keep those of each length in a file of its own"
        )
    own = next(iter(lines), None)
    if own is not None and asked is not None and not math.isclose(own, asked):
        raise ValueError(
            f"{path}: its labels are of segments of {own:g} s and are asked for as of {asked:g} s; give "
            f"segment_seconds {own:g}, or other labels"
        )
    return own


def majority(labels: Sequence[int]) -> int:
    """The label that most annotators gave, 0 where two labels share the first place."""
    (label, most), *others = Counter(labels).most_common()
    return 0 if others and others[0][1] == most else label


def by_place(judgements: Sequence[Judgement]) -> dict[Place, dict[str, int]]:
    """What was judged -> annotator -> label; second answers to the same question are left out."""
    labels: dict[Place, dict[str, int]] = defaultdict(dict)
    for judgement in judgements:
        if not judgement.repeat:
            labels[judgement.place][judgement.annotator] = judgement.label
    return dict(labels)


def repeated_answers(judgements: Sequence[Judgement]) -> dict[str, tuple[int, int]]:
    """Annotator -> questions that were answered twice, and how many of them alike."""
    first = {
        (judgement.place, judgement.annotator): judgement.label for judgement in judgements if not judgement.repeat
    }
    counts: dict[str, tuple[int, int]] = {}
    for judgement in judgements:
        if judgement.repeat:
            twice, alike = counts.get(judgement.annotator, (0, 0))
            same = first[judgement.place, judgement.annotator] == judgement.label
            counts[judgement.annotator] = (twice + 1, alike + same)
    return counts


def _check_header(path: Path, header: Sequence[str]) -> None:
    lacking = [name for name in _COLUMNS if name not in header]
    strange = [name for name in header if name not in _COLUMNS + _OPTIONAL]
    if lacking or strange:
        raise ValueError(
            f"{path}: the first line must name the columns {', '.join(_COLUMNS)} and, optionally, "
            f"{', '.join(_OPTIONAL)}; it is {','.join(header)!r}"
        )


def _fields(row: Mapping[str | None, Any]) -> dict[str, str]:
    """A row's fields, "" for those that it lacks; what is behind the last column is field ""."""
    rest = ",".join(row.get(None) or [])
    return {**{name: value or "" for name, value in row.items() if name is not None}, "": rest}


def _row_faults(row: Mapping[str, str], has_repeat: bool) -> list[str]:
    """What is wrong with a row; where the file has a column ``repeat``, a row without it was cut short."""
    faults = [] if row["key"] else ["key is empty"]
    # isdigit alone is true of "²", which int() refuses.
    if row["segment"].lower() != "whole" and not (row["segment"].isascii() and row["segment"].isdigit()):
        faults.append(f"segment {row['segment']!r} is neither a number from 0 nor whole")
    if row["label"].lower() not in _LABELS:
        faults.append(f"label {row['label']!r} is none of first, second and tie")
    if row.get("side", "").lower() not in ("", "first", "second"):
        faults.append(f"side {row['side']!r} is neither first nor second, the video that was shown on the left")
    if row.get("time") and not _is_time(row["time"]):
        faults.append(f"time {row['time']!r} is no ISO 8601 time")
    if row.get("seconds") and not _is_length(row["seconds"]):
        faults.append(f"seconds {row['seconds']!r} is no length of a segment, a number above 0")
    if has_repeat and row["repeat"] not in ("0", "1"):
        faults.append(f"repeat {row['repeat']!r} is neither 0 nor 1; `vidpref label` repairs a line that was cut short")
    if row[""]:
        faults.append(f"has more fields than the first line: {row['']!r}")
    return faults


def _is_length(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
