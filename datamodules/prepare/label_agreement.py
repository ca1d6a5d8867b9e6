"""How far two sets of labels agree: judge against people, judge against judge, annotator against annotator."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from datamodules.dense.facts import label_row
from datamodules.dense.segments import majority_label
from datamodules.prepare.judgements import WHOLE, Place, by_place, majority, read_judgements, segment_length
from datamodules.shards.checks import load_index

_NAMES = {1: "first", -1: "second", 0: "tie"}


@dataclass(frozen=True, slots=True)
class Agreement:
    """Numbers of one comparison; None where there is nothing to divide by.

    Attributes:
        items: segments (or videos) that both sets label.
        accuracy: the share with equal labels, ties being a label like the others.
        accuracy_without_ties: the share with equal labels among those that are no tie in the second set, the truth; a
            tie in the first set is a miss. What the paper (DenseDPO, table 3) reports.
        accuracy_both_decided: the share with equal labels among those that are a tie in neither.
        kappa: Cohen's kappa over the three labels: 0 = as chance would have it, 1 = the same.
        confusion: "FIRST/SECOND" -> how often the first set said FIRST where the second said SECOND.
    """

    items: int
    accuracy: float | None
    accuracy_without_ties: float | None
    accuracy_both_decided: float | None
    kappa: float | None
    confusion: dict[str, int]


def agreement(first: Sequence[int], second: Sequence[int]) -> Agreement:
    """Compare two lists of labels in {-1, 0, 1}, item by item; the second one is the truth where that matters."""
    both = list(zip(first, second, strict=True))
    counts, here, there = Counter(both), Counter(first), Counter(second)
    observed = _share([a == b for a, b in both])
    kappa = None
    if observed is not None:
        chance = sum(here[label] * there[label] for label in _NAMES) / len(both) ** 2
        # By chance alone all labels agree where each set has one label throughout: kappa says nothing then.
        kappa = None if chance == 1 else (observed - chance) / (1 - chance)
    confusion = {f"{_NAMES[a]}/{_NAMES[b]}": counts[a, b] for a in _NAMES for b in _NAMES}
    return Agreement(
        items=len(both),
        accuracy=observed,
        accuracy_without_ties=_share([a == b for a, b in both if b]),
        accuracy_both_decided=_share([a == b for a, b in both if a and b]),
        kappa=kappa,
        confusion=confusion,
    )


def label_agreement(
    first: str | Path, second: str | Path, level: Literal["segments", "whole"] = "segments"
) -> dict[str, Any]:
    """Print how far two sets of labels agree, and return the numbers.

    A set is the index file of label shards, or a CSV of human labels (docs/dense_data.md). Of a CSV with several
    annotators the majority is compared, and each annotator besides.

    Args:
        first: the labels to be tested.
        second: the labels that count as the truth.
        level: segments = compare segment by segment; whole = the whole videos' labels: the one that was given, else
            that of most segments.

    Returns:
        `Agreement`'s fields, "only_first" and "only_second" (items that the other set lacks), and "annotators": who ->
        `Agreement`'s fields against the other set ("WHO (first set)" where both sets have one of that name).

    Raises:
        ValueError: a set cannot be read, the sets are of other pairs, their segments differ, or no item is in both.
    """
    sets = [_Labels.read(path, level) for path in (first, second)]
    # Pairs of all kinds are named after their videos, so equal keys do not mean equal pairs.
    fingerprints = {labels.fingerprint for labels in sets if labels.fingerprint}
    if len(fingerprints) > 1:
        raise ValueError(f"{first} and {second} are labels of different pairs; compare labels of the same ones")
    if level == "segments" and (fault := _segments_fault(*sets)):
        raise ValueError(fault)
    # What only one set labels is counted, and not compared.
    common = [place for place in sets[0].labels if place in sets[1].labels]
    if not common:
        raise ValueError(f"{first} and {second} have no {'segment' if level == 'segments' else 'video'} in common")
    result = {
        **asdict(_compared(sets[0].labels, sets[1].labels)),
        "only_first": len(sets[0].labels) - len(common),
        "only_second": len(sets[1].labels) - len(common),
        "annotators": _each_annotator(*sets),
    }
    _print(result, str(first), str(second), level)
    return result


@dataclass(frozen=True, slots=True)
class _Labels:
    """Set of labels.

    Attributes:
        path: its file.
        labels: what was judged -> label.
        annotators: the same for each annotator, where there are several.
        segments: key -> how many segments the pair has, as far as this set knows.
        lengths: key -> frames in a segment; empty where the set does not say.
        seconds: the length of a segment; None where the set does not say.
        fingerprint: of the pairs that it is of; "" where the set does not say.
    """

    path: str
    labels: dict[Place, int]
    annotators: dict[str, dict[Place, int]]
    segments: dict[str, int]
    lengths: dict[str, int]
    seconds: float | None
    fingerprint: str

    @classmethod
    def read(cls, path: str | Path, level: str) -> _Labels:
        return (cls._of_csv if Path(path).suffix.lower() == ".csv" else cls._of_shards)(str(path), level)

    @classmethod
    def _of_csv(cls, path: str, level: str) -> _Labels:
        judgements = read_judgements(path)
        judged = by_place(judgements)
        names = sorted({name for by_annotator in judged.values() for name in by_annotator})
        # One annotator alone is the set itself, and is not listed a second time.
        annotators = {
            name: _of_level({place: labels[name] for place, labels in judged.items() if name in labels}, level)
            for name in (names if len(names) > 1 else [])
        }
        labels = {place: majority(list(by.values())) for place, by in judged.items()}
        segments: dict[str, int] = {}
        # A CSV does not say how many segments there are; at least up to the last one that was judged.
        for key, segment in labels:
            if segment is not WHOLE:
                segments[key] = max(segments.get(key, 0), segment + 1)
        seconds = segment_length(path, judgements) if level == "segments" else None
        return cls(path, _of_level(labels, level), annotators, segments, {}, seconds, "")

    @classmethod
    def _of_shards(cls, path: str, level: str) -> _Labels:
        index = load_index(path, "vidpref/labels")
        rows = [label_row(entry.key, entry.facts) for entry in index.entries]
        labels: dict[Place, int] = {}
        for row in rows:
            # The one segment of a pair that was judged as a whole alone is the video.
            if row.whole is None or len(row.labels) > 1:
                labels |= {Place(row.key, segment): label for segment, label in enumerate(row.labels)}
            if row.whole is not None:
                labels[Place(row.key, WHOLE)] = row.whole
        segments = {row.key: len(row.labels) for row in rows}
        lengths = {row.key: row.frames_per_segment for row in rows}
        made_from = index.made_from
        # A judge that was asked about whole videos had a setting for segments all the same.
        seconds = None if made_from.get("segments") == "whole" else made_from.get("segment_seconds")
        fingerprint = made_from.get("fingerprint", "")
        return cls(path, _of_level(labels, level), {}, segments, lengths, seconds, fingerprint)


def _of_level(labels: Mapping[Place, int], level: str) -> dict[Place, int]:
    """Labels of segments, or one for each whole video: the one that was given, else that of most segments."""
    if level == "segments":
        return {place: label for place, label in labels.items() if place.segment is not WHOLE}
    segments: dict[str, list[int]] = {}
    for place, label in labels.items():
        segments.setdefault(place.key, [])
        if place.segment is not WHOLE:
            segments[place.key].append(label)
    return {
        Place(key, WHOLE): labels.get(Place(key, WHOLE), majority_label(of_video)) for key, of_video in segments.items()
    }


def _segments_fault(first: _Labels, second: _Labels) -> str | None:
    """Segments of different lengths are different segments. Whole videos may come from either."""
    if first.seconds and second.seconds and not math.isclose(first.seconds, second.seconds):
        return (
            f"segments differ: {first.path} has segments of {first.seconds:g} s and {second.path} of "
            f"{second.seconds:g} s; compare labels of one length, or whole videos (level: whole)"
        )
    # Lengths first: where they differ so do the counts, and the length is the reason.
    for unit, of_first, of_second in (
        ("frames a segment", first.lengths, second.lengths),
        ("segments", first.segments, second.segments),
    ):
        differ = [key for key, count in of_first.items() if of_second.get(key, count) != count]
        if differ:
            key = differ[0]
            return (
                f"segments differ: of {key!r} and {len(differ) - 1} others, {first.path} has {of_first[key]} {unit} "
                f"and {second.path} {of_second[key]}; label every segment in both, or compare whole videos "
                "(level: whole)"
            )
    return None


def _each_annotator(first: _Labels, second: _Labels) -> dict[str, Any]:
    """Annotator -> `Agreement`'s fields against the other set; the second set remains the truth."""
    both = first.annotators.keys() & second.annotators.keys()
    results = {}
    for name, labels in first.annotators.items():
        results[f"{name} (first set)" if name in both else name] = asdict(_compared(labels, second.labels))
    for name, labels in second.annotators.items():
        results[f"{name} (second set)" if name in both else name] = asdict(_compared(first.labels, labels))
    return results


def _compared(first: Mapping[Place, int], second: Mapping[Place, int]) -> Agreement:
    common = [place for place in first if place in second]
    return agreement([first[place] for place in common], [second[place] for place in common])


def _share(hits: Sequence[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None


def _print(result: Mapping[str, Any], first: str, second: str, level: str) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    columns = {
        "items": "items",
        "accuracy_without_ties": "accuracy\nwithout ties",
        "accuracy_both_decided": "accuracy\nboth decided",
        "accuracy": "accuracy\nwith ties",
        "kappa": "kappa",
    }
    table.add_column("labels")
    for title in columns.values():
        table.add_column(title, justify="right")
    for name, values in {"all": result, **result["annotators"]}.items():
        shares = ("-" if values[column] is None else f"{values[column]:.4f}" for column in columns if column != "items")
        table.add_row(name, str(values["items"]), *shares)
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{'Segments' if level == 'segments' else 'Whole videos'}: {first} against {second}")
    console.print(table)
    counts = ", ".join(f"{pair} {count}" for pair, count in result["confusion"].items() if count)
    console.print(f"first set/second set: {counts}")
    console.print(f"not in the other set: {result['only_first']} of the first, {result['only_second']} of the second")
