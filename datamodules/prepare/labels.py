"""Labels that people gave, from a CSV of judgements, as label shards beside the pairs'."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from datamodules.dense.facts import pair_row
from datamodules.dense.rows import LabelRow, PairRow
from datamodules.dense.segments import num_segments
from datamodules.prepare.judgements import (
    WHOLE,
    Judgement,
    by_place,
    majority,
    read_judgements,
    repeated_answers,
    segment_length,
)
from datamodules.schemas import write_shards
from datamodules.shards.checks import load_index
from datamodules.shards.index import Index
from datamodules.shards.output_lock import locks_output
from datamodules.stream.predict_outputs import json_bytes


@locks_output("output")
def prepare_labels(
    labels: str | Path,
    pairs: str | Path,
    output: str | Path,
    segment_seconds: float | None = None,
    judge: str = "human",
    samples_per_shard: int = 1024,
    incomplete: Literal["error", "skip"] = "error",
) -> Index:
    """Turn a CSV of human labels into label shards; docs/dense_data.md describes the CSV.

    Several annotators' labels of one segment become one by majority, a draw being a tie. Pairs that the CSV does not
    name get no label and are not trained on; a pair that it names needs a label for each of its segments, or one for
    the whole video, or both.

    Args:
        labels: the CSV: columns key, segment, label and, optionally, annotator, side, time, seconds and repeat, as
            `vidpref label` writes them.
        pairs: index file of the pairs' shards.
        output: folder and common name of the label shards.
        segment_seconds: length of a segment; null = as the CSV says, 1 where it does not.
        judge: how the labels are called in results.
        samples_per_shard: samples in one tar file.
        incomplete: what is done with a pair of which only some segments have a label, as when labelling goes on: error,
            or skip = leave it out and say so.

    Raises:
        ValueError: lists every fault of every row, and nothing is written; or shards of that name exist.
    """
    if segment_seconds is not None and not 0 < segment_seconds < math.inf:
        raise ValueError(f"segment_seconds is {segment_seconds:g}; give a number above 0")
    index = load_index(pairs, "vidpref/pairs")
    known = {entry.key: pair_row(entry.key, entry.facts) for entry in index.entries}
    judgements = read_judgements(labels)
    own_length = segment_length(labels, judgements, segment_seconds)
    segment_seconds = segment_seconds or own_length or 1.0
    rows, left_out, faults = _label_rows(known, judgements, segment_seconds, judge, incomplete == "skip")
    strangers = sorted({judgement.place.key for judgement in judgements} - set(known))
    faults = [*(f"key {key!r} is no pair of {pairs}" for key in strangers), *faults]
    if not rows and not faults:
        faults.append("no pair has a label for each of its segments; label the others, too")
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
    _print_unused(left_out, judgements)
    return written


def _print_unused(left_out: Sequence[str], judgements: Sequence[Judgement]) -> None:
    """Which pairs got no label, and how many second answers of each annotator were no second votes."""
    if left_out:
        more = ", ..." if len(left_out) > 5 else ""
        print(f"left out, because segments have no label: {len(left_out)} pairs ({', '.join(left_out[:5])}{more})")
    for annotator, (twice, alike) in repeated_answers(judgements).items():
        print(
            f"{annotator or 'without a name'}: {twice} questions asked twice, {alike} answered alike; not counted twice"
        )


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
    # In the order of the pairs, whatever the CSV's is: equal labels give equal shards.
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
        # At least a latent's frames, or the label of a single picture would be refused as too short.
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
