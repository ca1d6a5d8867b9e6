"""How far people and judges agree about the segments, and where they do not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from benchmarks.labelling.label_file import LabelFile
from benchmarks.labelling.pairs import ShownPairs
from datamodules.dense.facts import label_row
from datamodules.prepare.judgements import Place, by_place, majority, repeated_answers
from datamodules.prepare.label_agreement import agreement
from datamodules.shards.checks import load_index

#: How the majority of several annotators is called beside them.
PEOPLE = "people"


@dataclass(frozen=True, slots=True)
class Labeller:
    """Somebody whose labels are compared.

    Attributes:
        name: unique among those compared.
        kind: ``person``, ``people`` (the majority of several) or ``judge``.
        labels: what was judged -> label.
    """

    name: str
    kind: str
    labels: Mapping[Place, int]


def read_judge(path: str | Path, pairs: ShownPairs) -> Labeller:
    """The labels of a judge, from label shards of the same pairs and the same segments.

    Raises:
        ValueError: the index cannot be read, or is of other pairs or segments.
    """
    index = load_index(path, "vidpref/labels")
    if index.made_from.get("fingerprint") != pairs.index.fingerprint:
        raise ValueError(f"{path}: are labels of other pairs than {pairs.path}; name labels of these pairs")
    labels: dict[Place, int] = {}
    name = str(index.made_from.get("judge") or "")
    for row in (label_row(entry.key, entry.facts) for entry in index.entries):
        position = pairs.index.positions[row.key]
        name = name or row.judge
        if pairs.granularity == "whole":
            labels[Place(row.key, None)] = row.preference
            continue
        if len(row.labels) == 1 and row.whole is not None and len(pairs.segments(position)) > 1:
            continue  # judged as a whole alone: it says nothing of segments
        if row.frames_per_segment != pairs.frames_per_segment[position]:
            raise ValueError(
                f"{path}: key {row.key!r} has segments of {row.frames_per_segment} frames, the page asks about "
                f"{pairs.frames_per_segment[position]}; give the segment_seconds of the labels"
            )
        labels |= {Place(row.key, segment): label for segment, label in enumerate(row.labels)}
    return Labeller(name or Path(path).name.removesuffix(".index.json"), "judge", labels)


class AgreementView:
    """Agreement of annotators, people and judges, as the page's second view shows it.

    Args:
        pairs: what is labelled.
        file: the people's labels, read at each call.
        judges: the judges' labels.
    """

    def __init__(self, pairs: ShownPairs, file: LabelFile, judges: Sequence[Labeller] = ()) -> None:
        self.pairs, self.file, self.judges = pairs, file, list(judges)

    def labellers(self) -> list[Labeller]:
        """Annotators by name, their majority where there are several, then judges; names are unique."""
        # A file may hold labels of segments and of whole videos; only those of what this page asks are compared.
        asked_segments = {
            segment.segment for position in range(len(self.pairs)) for segment in self.pairs.segments(position)
        }
        labels_of = {
            place: labels for place, labels in by_place(self.file.judgements).items() if place.segment in asked_segments
        }
        names = sorted({name for labels in labels_of.values() for name in labels})
        people = [
            Labeller(
                name or "unnamed",
                "person",
                {place: labels[name] for place, labels in labels_of.items() if name in labels},
            )
            for name in names
        ]
        if len(names) > 1:
            people.append(
                Labeller(
                    PEOPLE, "people", {place: majority(list(labels.values())) for place, labels in labels_of.items()}
                )
            )
        names_in_use: set[str] = set()
        labellers = []
        for labeller in [*people, *self.judges]:
            name, count = labeller.name, 1
            while name in names_in_use:
                count += 1
                name = f"{labeller.name} ({labeller.kind} {count})"
            names_in_use.add(name)
            labellers.append(Labeller(name, labeller.kind, labeller.labels))
        return labellers

    def summary(self) -> dict[str, Any]:
        """Who was compared with whom, as plain JSON types: `Agreement`'s fields for each two labellers.

        The majority is compared with judges alone: it holds each annotator's own votes.
        """
        labellers = self.labellers()
        table = []
        for labeller, other in combinations(labellers, 2):
            if {labeller.kind, other.kind} == {"person", "people"}:
                continue
            common = [place for place in labeller.labels if place in other.labels]
            numbers = agreement([labeller.labels[place] for place in common], [other.labels[place] for place in common])
            table.append({"first": labeller.name, "second": other.name, **asdict(numbers)})
        twice = repeated_answers(self.file.judgements)
        return {
            "sources": [
                {"name": labeller.name, "kind": labeller.kind, "items": len(labeller.labels)} for labeller in labellers
            ],
            "table": table,
            "repeats": [{"name": name, "twice": count, "alike": alike} for name, (count, alike) in twice.items()],
            "granularity": self.pairs.granularity,
        }

    def rows(self, only_disagreements: bool, offset: int, limit: int) -> dict[str, Any]:
        """The labelled pairs, segment by segment and labeller by labeller.

        Args:
            only_disagreements: whether pairs are left out on which all labellers agree.
            offset: so many pairs are passed over.
            limit: so many pairs at most.

        Returns:
            total (pairs) and pairs, as plain JSON types.
        """
        # The majority is made of the others: where it differs from one of them, they differ already.
        labellers = [labeller for labeller in self.labellers() if labeller.kind != "people"]
        selected = []
        for position, entry in enumerate(self.pairs.index.entries):
            places = [Place(entry.key, segment.segment) for segment in self.pairs.segments(position)]
            labels = {labeller.name: [labeller.labels.get(place) for place in places] for labeller in labellers}
            votes = [[row[k] for row in labels.values() if row[k] is not None] for k in range(len(places))]
            differs = [len(set(column)) > 1 for column in votes]
            if any(differs) or (not only_disagreements and any(votes)):
                selected.append((position, labels, differs))
        page = [self._pair(*pair) for pair in selected[offset : offset + limit]]
        return {"total": len(selected), "pairs": page}

    def _pair(self, position: int, labels: Mapping[str, list[int | None]], differs: list[bool]) -> dict[str, Any]:
        row = self.pairs.rows[position]
        return {
            "key": row.key,
            "prompt": self.pairs.prompt(position),
            "fps": row.video.fps,
            "frames": row.video.frames,
            "aspect": row.video.width / row.video.height,
            "segments": [[segment.frames.start, segment.frames.stop] for segment in self.pairs.segments(position)],
            "first": f"media/{self.pairs.media_name(position, 'first')}.mp4",
            "second": f"media/{self.pairs.media_name(position, 'second')}.mp4",
            "labels": labels,
            "differs": differs,
        }
