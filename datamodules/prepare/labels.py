"""Labels that people gave, from a CSV, as label shards beside the pairs'.

The CSV has a header and one row a judgement:

- ``key``: the pair's key in its shards;
- ``segment``: its number from 0 (segment k begins after k x segment_seconds), or ``whole`` for the whole video;
- ``label``: ``first``, ``second`` or ``tie`` (also 1, -1, 0): which of the pair's videos is better;
- ``annotator``, optional: who said so; then several rows may judge the same segment, one an annotator.

Of several annotators the label is the one that most of them gave. Where two labels share the first place it is a tie:
one for the first video and one for the second are a tie, one for the first and one tie are a tie, two for the first and
one tie are +1. The rule is ours; the paper (DenseDPO) has a reviewer look at its two labellers' work instead.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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
_OPTIONAL = ("annotator",)


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
    """

    line: int
    place: Place
    label: int
    annotator: str = ""


def read_judgements(path: str | Path) -> list[Judgement]:
    """The rows of a CSV of labels, as the module describes it.

    Raises:
        ValueError: lists every fault of every row.
    """
    path = Path(path)
    header, lines = read_csv(path, "the CSV of labels")
    lacking = [name for name in _COLUMNS if name not in header]
    if lacking or any(name not in _COLUMNS + _OPTIONAL for name in header):
        raise ValueError(
            f"{path}: the first line must name the columns {', '.join(_COLUMNS)} and, optionally, "
            f"{', '.join(_OPTIONAL)}; it is {','.join(header)!r}"
        )
    judgements: list[Judgement] = []
    faults: list[str] = []
    seen: dict[tuple[Place, str], int] = {}
    for line, cells in lines:
        # "" for the cells that a short row lacks.
        row = {name: cells.get(name) or "" for name in (*_COLUMNS, *_OPTIONAL)}
        row_faults = _row_faults(row, ",".join(cells.get(None) or []))
        if not row_faults:
            segment = WHOLE if row["segment"].lower() == "whole" else int(row["segment"])
            judgement = Judgement(line, Place(row["key"], segment), _LABELS[row["label"].lower()], row["annotator"])
            if (before := seen.setdefault((judgement.place, judgement.annotator), line)) != line:
                row_faults = [f"repeats line {before}; one row for each segment and annotator"]
            judgements.append(judgement)
        faults += [f"line {line}: {fault}" for fault in row_faults]
    if not lines:
        faults.append("holds no rows")
    if faults:
        raise ValueError("\n".join([f"{path}: fix these rows, nothing was written:", *faults]))
    return judgements


def majority(labels: Sequence[int]) -> int:
    """The label that most annotators gave, 0 where two labels share the first place."""
    (label, most), *others = Counter(labels).most_common()
    return 0 if others and others[0][1] == most else label


def by_place(judgements: Sequence[Judgement]) -> dict[Place, dict[str, int]]:
    """What was judged -> annotator -> label."""
    labels: dict[Place, dict[str, int]] = defaultdict(dict)
    for judgement in judgements:
        labels[judgement.place][judgement.annotator] = judgement.label
    return dict(labels)


@locks_output("output")
def prepare_labels(
    labels: str | Path,
    pairs: str | Path,
    output: str | Path,
    segment_seconds: float = 1.0,
    judge: str = "human",
    samples_per_shard: int = 1024,
) -> Index:
    """Turn a CSV of human labels into label shards; docs/dense_data.md describes the CSV.

    Several annotators' labels of one segment become one by majority, a draw being a tie. Pairs that the CSV does not
    name get no label and are not trained on; a pair that it names needs a label for each of its segments, or one for
    the whole video, or both.

    Args:
        labels: the CSV: columns key, segment, label and, optionally, annotator.
        pairs: index file of the pairs' shards.
        output: folder and common name of the label shards.
        segment_seconds: length of a segment.
        judge: how the labels are called in results.
        samples_per_shard: samples in one tar file.

    Raises:
        ValueError: lists every fault of every row, and nothing is written; or shards of that name exist.
    """
    if not 0 < segment_seconds < math.inf:
        raise ValueError(f"segment_seconds is {segment_seconds:g}; give a number above 0")
    index = load_index(pairs, "vidpref/pairs")
    known = {entry.key: pair_row(entry.key, entry.facts) for entry in index.entries}
    judged = {place: majority(list(by.values())) for place, by in by_place(read_judgements(labels)).items()}
    rows, faults = _label_rows(known, judged, segment_seconds, judge)
    faults = [
        f"key {key!r} is no pair of {pairs}" for key in sorted({place.key for place in judged} - set(known))
    ] + faults
    if faults:
        raise ValueError("\n".join([f"{labels}: nothing was written:", *faults]))
    # At another rate a second is another number of frames; readers take each row's own then.
    lengths = {row.frames_per_segment for row in rows}
    made_from = {
        "fingerprint": index.fingerprint,
        "judge": judge,
        "frames_per_segment": lengths.pop() if len(lengths) == 1 else None,
        "segment_seconds": segment_seconds,
    }
    samples = ((row.key, {"json": json_bytes(row.to_json())}) for row in rows)
    written = write_shards(samples, output, "vidpref/labels", samples_per_shard=samples_per_shard, made_from=made_from)
    print(f"labels of {len(rows)} of {len(known)} pairs: {output}.index.json")
    return written


def _label_rows(
    pairs: Mapping[str, PairRow], judged: Mapping[Place, int], segment_seconds: float, judge: str
) -> tuple[list[LabelRow], list[str]]:
    """The labels of all pairs that were judged, and what is wrong with those of the others."""
    rows: list[LabelRow] = []
    faults: list[str] = []
    named = {place.key for place in judged}
    for key, pair in pairs.items():
        if key in named:
            try:
                rows.append(_label_row(pair, judged, segment_seconds, judge))
            except ValueError as error:
                faults.append(f"key {key!r}: {error}")
    return rows, faults


def _label_row(row: PairRow, judged: Mapping[Place, int], segment_seconds: float, judge: str) -> LabelRow:
    """The labels of one pair.

    Raises:
        ValueError: segments without a label, or labels of segments that the pair does not have.
    """
    labels = {place.segment: label for place, label in judged.items() if place.key == row.key}
    whole = labels.pop(WHOLE, None)
    ratio = row.latent_space.temporal_ratio
    if not labels:  # judged as a whole only: one segment that is the whole video
        assert whole is not None, "a pair that is named has a label"
        return LabelRow(row.key, (whole,), max(row.video.frames, ratio), judge=judge, whole=whole)
    length = round(segment_seconds * row.video.fps)
    segments = range(num_segments(row.video.frames, length, ratio))
    faults = [f"segment {segment} has no label" for segment in segments if segment not in labels]
    faults += [
        f"segment {segment} does not exist, {len(segments)} segments of {segment_seconds:g} s count from 0"
        for segment in sorted(segment for segment in labels if segment is not None and segment not in segments)
    ]
    if faults:
        raise ValueError("; ".join(faults))
    return LabelRow(row.key, tuple(labels[segment] for segment in segments), length, judge=judge, whole=whole)


def _row_faults(row: Mapping[str, str], surplus: str) -> list[str]:
    """What is wrong with a row; surplus is what it has behind its last column."""
    faults = [] if row["key"] else ["key is empty"]
    # isdigit alone lets digits of other scripts and superscripts through.
    if row["segment"].lower() != "whole" and not (row["segment"].isascii() and row["segment"].isdigit()):
        faults.append(f"segment {row['segment']!r} is neither a number from 0 nor whole")
    if row["label"].lower() not in _LABELS:
        faults.append(f"label {row['label']!r} is none of first, second and tie")
    if surplus:
        faults.append(f"has more fields than the first line: {surplus!r}")
    return faults
