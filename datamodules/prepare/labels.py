"""Labels that people gave, from a CSV, as label shards beside the pairs'.

The CSV has a header and one row a judgement:

- ``key``: the pair's key in its shards;
- ``segment``: its number from 0 (segment k begins after k x segment_seconds), or ``whole`` for the whole video;
- ``label``: ``first``, ``second`` or ``tie`` (also 1, -1, 0): which of the pair's videos is better;
- ``annotator``, optional: who said so; then several rows may judge the same segment, one an annotator.

`vidpref label` writes three columns more, which a file may lack:

- ``side``: which of the pair's videos was shown on the left, ``first`` or ``second``;
- ``time``: when the answer was given, ISO 8601 with a time zone;
- ``repeat``: 0 for an annotator's first answer, 1 for the second one to the same question. Second answers say how
  consistent an annotator is; they are no second votes.

Of several annotators the label is the one that most of them gave. Where two labels share the first place it is a tie:
one for the first video and one for the second are a tie, one for the first and one tie are a tie, two for the first and
one tie are +1. The rule is ours; the paper (DenseDPO) has a reviewer look at its two labellers' work instead.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

from datamodules.csv_table import read_csv
from datamodules.dense.facts import pair_row
from datamodules.dense.rows import LabelRow, PairRow
from datamodules.dense.segments import num_segments
from datamodules.schemas import write_shards
from datamodules.shards.checks import load_index
from datamodules.shards.index import Index
from datamodules.shards.output_lock import locks_output
from datamodules.stream.predict_outputs import json_bytes

#: The segment of a judgement on the whole video.
WHOLE = None

_LABELS = {"first": 1, "second": -1, "tie": 0, "1": 1, "+1": 1, "-1": -1, "0": 0}
_COLUMNS = ("key", "segment", "label")
_OPTIONAL = ("annotator", "side", "time", "repeat")
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
    """

    line: int
    place: Place
    label: int
    annotator: str = ""
    side: str = ""
    time: str = ""
    repeat: int = 0


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
            )
            if (earlier := seen.setdefault((place, judgement.annotator, repeat), line)) != line:
                reasons = [f"repeats line {earlier}; one row for each segment and annotator"]
            judgements.append(judgement)
        faults += [f"line {line}: {reason}" for reason in reasons]
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


@locks_output("output")
def prepare_labels(
    labels: str | Path,
    pairs: str | Path,
    output: str | Path,
    segment_seconds: float = 1.0,
    judge: str = "human",
    samples_per_shard: int = 1024,
    incomplete: Literal["error", "skip"] = "error",
) -> Index:
    """Turn a CSV of human labels into label shards; docs/dense_data.md describes the CSV.

    Several annotators' labels of one segment become one by majority, a draw being a tie. Pairs that the CSV does not
    name get no label and are not trained on; a pair that it names needs a label for each of its segments, or one for
    the whole video, or both.

    Args:
        labels: the CSV: columns key, segment, label and, optionally, annotator, side, time and repeat, as
            `vidpref label` writes them.
        pairs: index file of the pairs' shards.
        output: folder and common name of the label shards.
        segment_seconds: length of a segment.
        judge: how the labels are called in results.
        samples_per_shard: samples in one tar file.
        incomplete: what is done with a pair of which only some segments have a label, as when labelling goes on: error,
            or skip = leave it out and say so.

    Raises:
        ValueError: lists every fault of every row, and nothing is written; or shards of that name exist.
    """
    if not 0 < segment_seconds < math.inf:
        raise ValueError(f"segment_seconds is {segment_seconds:g}; give a number above 0")
    index = load_index(pairs, "vidpref/pairs")
    known = {entry.key: pair_row(entry.key, entry.facts) for entry in index.entries}
    judgements = read_judgements(labels)
    strangers = sorted({judgement.place.key for judgement in judgements} - set(known))
    rows, left_out, faults = _label_rows(known, judgements, segment_seconds, judge, incomplete == "skip")
    faults = [*(f"key {key!r} is no pair of {pairs}" for key in strangers), *faults]
    if not rows and not faults:
        faults.append("no pair has a label for each of its segments; label the others, too")
    if faults:
        raise ValueError("\n".join([f"{labels}: nothing was written:", *faults]))
    lengths = {row.frames_per_segment for row in rows}
    made_from = {
        "fingerprint": index.fingerprint,
        "judge": judge,
        "frames_per_segment": lengths.pop() if len(lengths) == 1 else None,
        "segment_seconds": segment_seconds,
    }
    written = write_shards(
        _samples(rows), output, "vidpref/labels", samples_per_shard=samples_per_shard, made_from=made_from
    )
    print(f"labels of {len(rows)} of {len(known)} pairs: {output}.index.json")
    if left_out:
        more = ", ..." if len(left_out) > 5 else ""
        print(f"left out, because segments have no label: {len(left_out)} pairs ({', '.join(left_out[:5])}{more})")
    for annotator, (twice, alike) in repeated_answers(judgements).items():
        print(
            f"{annotator or 'without a name'}: {twice} questions asked twice, {alike} answered alike; not counted twice"
        )
    return written


def _label_rows(
    known: Mapping[str, PairRow],
    judgements: Sequence[Judgement],
    segment_seconds: float,
    judge: str,
    may_lack: bool,
) -> tuple[list[LabelRow], list[str], list[str]]:
    """The labels of each pair that is named, the keys that are left out because segments have no label, and faults."""
    judged: dict[str, dict[int | None, int]] = defaultdict(dict)
    for place, answers in by_place(judgements).items():
        judged[place.key][place.segment] = majority(list(answers.values()))
    rows: list[LabelRow] = []
    left_out: list[str] = []
    faults: list[str] = []
    for key in (key for key in known if key in judged):
        try:
            row = _label_row(known[key], judged[key], segment_seconds, judge, may_lack)
        except ValueError as error:
            faults.append(f"key {key!r}: {error}")
            continue
        if row is None:
            left_out.append(key)
        else:
            rows.append(row)
    return rows, left_out, faults


def _label_row(
    row: PairRow, judged: Mapping[int | None, int], segment_seconds: float, judge: str, may_lack: bool
) -> LabelRow | None:
    """The labels of one pair; None = segments have no label, and `may_lack` allows that.

    Raises:
        ValueError: segments without a label, or labels of segments that the pair does not have.
    """
    labels = {segment: label for segment, label in judged.items() if segment is not WHOLE}
    whole = judged.get(WHOLE)
    ratio = row.latent_space.temporal_ratio
    if not labels:  # judged as a whole only: one segment that is the whole video
        assert whole is not None, "a pair that is named has a label"
        return LabelRow(row.key, (whole,), max(row.video.frames, ratio), judge=judge, whole=whole)
    length = round(segment_seconds * row.video.fps)
    segments = range(num_segments(row.video.frames, length, ratio))
    lacking = [segment for segment in segments if segment not in labels]
    faults = [] if may_lack else [f"segment {segment} has no label" for segment in lacking]
    faults += [
        f"segment {segment} does not exist, {len(segments)} segments of {segment_seconds:g} s count from 0"
        for segment in sorted(segment for segment in labels if segment not in segments)
    ]
    if faults:
        raise ValueError("; ".join(faults))
    if lacking:
        return None
    return LabelRow(row.key, tuple(labels[segment] for segment in segments), length, judge=judge, whole=whole)


def _samples(rows: Sequence[LabelRow]) -> Iterator[tuple[str, dict[str, bytes]]]:
    return ((row.key, {"json": json_bytes(row.to_json())}) for row in rows)


def _check_header(path: Path, header: Sequence[str]) -> None:
    lacking = [name for name in _COLUMNS if name not in header]
    strange = [name for name in header if name not in _COLUMNS + _OPTIONAL]
    if lacking or strange:
        raise ValueError(
            f"{path}: the first line must name the columns {', '.join(_COLUMNS)} and, optionally, "
            f"{', '.join(_OPTIONAL)}; it is {','.join(header)!r}"
        )


def _fields(row: Mapping[str | None, Any]) -> dict[str, str]:
    """A row's fields, "" for those that it lacks; what stands behind the last column is field ""."""
    rest = ",".join(row.get(None) or [])
    return {**{name: value or "" for name, value in row.items() if name is not None}, "": rest}


def _row_faults(row: Mapping[str, str], has_repeat: bool) -> list[str]:
    """What is wrong with a row; where the file has a column ``repeat``, a row without it was cut short."""
    faults = [] if row["key"] else ["key is empty"]
    if row["segment"].lower() != "whole" and not (row["segment"].isascii() and row["segment"].isdigit()):
        faults.append(f"segment {row['segment']!r} is neither a number from 0 nor whole")
    if row["label"].lower() not in _LABELS:
        faults.append(f"label {row['label']!r} is none of first, second and tie")
    if row.get("side", "").lower() not in ("", "first", "second"):
        faults.append(f"side {row['side']!r} is neither first nor second, the video that was shown on the left")
    if row.get("time") and not _is_time(row["time"]):
        faults.append(f"time {row['time']!r} is no ISO 8601 time")
    if has_repeat and row["repeat"] not in ("0", "1"):
        faults.append(f"repeat {row['repeat']!r} is neither 0 nor 1; `vidpref label` repairs a line that was cut short")
    if row[""]:
        faults.append(f"has more fields than the first line: {row['']!r}")
    return faults


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
