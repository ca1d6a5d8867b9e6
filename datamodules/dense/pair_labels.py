"""Pairs and their labels, joined by key: faults, the selection of a filter, and what the label ablations change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from datamodules.dense.batches import ItemKind
from datamodules.dense.facts import label_row, pair_row
from datamodules.dense.rows import LabelRow, PairRow
from datamodules.dense.segments import decided_share, latent_segments, num_segments
from datamodules.shards.index import Index
from datamodules.shards.joined_index import joined
from datamodules.stream.draws import generator


@dataclass(frozen=True, slots=True)
class FrameLabels:
    """Labels of a pair, latent frame by latent frame.

    Attributes:
        frames: F labels in {-1, 0, 1}, of the segment that each latent frame belongs to.
        segments: F segments.
        whole: the label of the whole video.
    """

    frames: tuple[int, ...]
    segments: tuple[int, ...]
    whole: int

    def items(self, kind: ItemKind) -> int:
        """How many items of a term's denominator the pair has."""
        decided = sum(label != 0 for label in self.frames)
        counts: dict[ItemKind, int] = {
            "decided_frames": decided,
            "decided_videos": int(self.whole != 0),
            "decided_pairs": int(decided > 0),
        }
        return counts[kind]


@dataclass(frozen=True, slots=True)
class LabelFilter:
    """Filter of labelled pairs: which are taken, and with which labels.

    Attributes:
        min_decided: a pair is taken if more than this share of its segments is no tie (paper: 0.2); None = any share.
        drop_whole_ties: leave out pairs whose whole-video label is a tie: they do nothing where only that one is used.
        fraction: the share of the labelled pairs that is used, drawn by key (ablation; 1 = all).
        flip: the share of labels that is turned round, drawn by key (label noise, an ablation; 0 = none): of the labels
            of segments, and by draws of their own of those of whole videos.
        seed: decides both draws. A smaller fraction is part of a larger one, and so are the labels that are flipped.
    """

    min_decided: float | None = 0.2
    drop_whole_ties: bool = False
    fraction: float = 1.0
    flip: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.min_decided is not None and not 0 <= self.min_decided < 1:
            raise ValueError(
                f"data.min_decided is {self.min_decided}; give a share in [0, 1), the paper's is 0.2, or null for any"
            )
        if not 0 < self.fraction <= 1:
            raise ValueError(f"data.label_fraction is {self.fraction}; give a share in (0, 1], 1 uses all labels")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"data.flip_labels is {self.flip}; give a share in [0, 1], 0 leaves labels as they are")

    def flipped(self, label: LabelRow) -> LabelRow:
        """The row with its share of labels turned round; ties stay ties."""
        if not self.flip:
            return label
        # By the pair's key: another filter or another order of the pairs flips the same labels.
        random = generator(self.seed, label.key, "labels/flip")
        # Drawn also where it is the majority of the segments: of flipped ones that turns more often, or less.
        whole = -label.preference if random.random() < self.flip else label.preference
        turned = random.random(len(label.labels)) < self.flip
        labels = tuple(-value if turn else value for value, turn in zip(label.labels, turned, strict=True))
        return replace(label, labels=labels, whole=whole)

    def drawn(self, keys: Sequence[str]) -> set[str]:
        """The share of the keys that is used; at least one."""
        if self.fraction == 1:
            return set(keys)
        # By a number of each key's own, so that a smaller fraction is part of a larger one, whatever else is there.
        ranked = sorted(keys, key=lambda key: (generator(self.seed, key, "labels/fraction").random(), key))
        return set(ranked[: max(1, round(self.fraction * len(ranked)))])


@dataclass(frozen=True, slots=True)
class SelectedPairs:
    """Pairs that a filter selected.

    Attributes:
        labels: position -> labels, of the pairs that were taken.
        left_out: why -> how many pairs.
    """

    labels: dict[int, FrameLabels]
    left_out: dict[str, int]

    def __str__(self) -> str:
        total = len(self.labels) + sum(self.left_out.values())
        why = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items() if count)
        return f"{len(self.labels)} of {total} pairs are taken; left out: {why or 'none'}"


@dataclass(frozen=True, slots=True, eq=False)
class LabelledPairs:
    """The pairs of an index, each with its labels.

    Attributes:
        pairs: where the pairs are.
        labels: where their labels are.
        rows: N pairs by position, without their prompts, each with its label; None where it has none.
    """

    pairs: Index
    labels: Index
    rows: list[tuple[PairRow, LabelRow | None]]

    def faults(self) -> list[str]:
        """Everything that is wrong and shows before a shard is read, naming shard and key."""
        faults = []
        for position, (row, label) in enumerate(self.rows):
            faults += [f"{self.pairs.address(position)}: sample {row.key!r}: {fault}" for fault in row.faults()]
            if label is not None:
                # Its segments are checked only where the row is right by itself, or one mistake would be listed twice.
                reasons = [str(fault) for fault in label.faults()] or _segment_faults(row, label)
                address = self.labels.address(self.labels.positions[row.key])
                faults += [f"{address}: sample {row.key!r}: {reason}" for reason in reasons]
        return faults

    def take(self, label_filter: LabelFilter) -> SelectedPairs:
        """The pairs that a filter lets through, read from the index alone."""
        drawn = label_filter.drawn([row.key for row, label in self.rows if label is not None])
        unlabelled, undrawn = "without a label", "by label_fraction"
        undecided, tie = f"with at most {label_filter.min_decided or 0:.0%} of the segments decided", "a tie as a whole"
        left_out = dict.fromkeys((unlabelled, undrawn, undecided, tie), 0)
        labels: dict[int, FrameLabels] = {}
        # Few labels differ from all others; one object for all that are equal is sent to a worker once.
        distinct: dict[FrameLabels, FrameLabels] = {}
        for position, (row, label) in enumerate(self.rows):
            # Each pair is counted once, under the first reason against it.
            if label is None:
                left_out[unlabelled] += 1
            elif row.key not in drawn:
                left_out[undrawn] += 1
            elif label_filter.min_decided is not None and decided_share(label.labels) <= label_filter.min_decided:
                left_out[undecided] += 1
            else:
                flipped = label_filter.flipped(label)
                if flipped.preference or not label_filter.drop_whole_ties:
                    own = frame_labels(row, flipped)
                    labels[position] = distinct.setdefault(own, own)
                else:
                    left_out[tie] += 1
        return SelectedPairs(labels, left_out)


def frame_labels(row: PairRow, label: LabelRow) -> FrameLabels:
    """A pair's labels, latent frame by latent frame; one that is no part of the video has none."""
    space = row.latent_space
    segments = _segments_of(row.video.frames, label.frames_per_segment, space.temporal_ratio)
    labels = tuple(label.labels[segment] for segment in segments)
    leading = space.leading_frames
    return FrameLabels((0,) * leading + labels, (-1,) * leading + segments, label.preference)


# Cached, as thousands of pairs have the same few lengths.
@lru_cache
def _segments_of(num_frames: int, frames_per_segment: int, temporal_ratio: int) -> tuple[int, ...]:
    return tuple(latent_segments(num_frames, frames_per_segment, temporal_ratio).tolist())


_num_segments = lru_cache(num_segments)


def _segment_faults(row: PairRow, label: LabelRow) -> list[str]:
    try:
        count = _num_segments(row.video.frames, label.frames_per_segment, row.latent_space.temporal_ratio)
    except ValueError as error:
        return [str(error)]
    if len(label.labels) == count:
        return []
    return [
        f"labels: {len(label.labels)} do not fit {row.video.frames} frames, which in segments of "
        f"{label.frames_per_segment} frames have {count} labels; label the pair again"
    ]


def join_labels(pairs: Sequence[Index], labels: Sequence[Index]) -> LabelledPairs:
    """Pairs with the labels that were made for them, joined by key.

    Args:
        pairs: the pairs, one index for each file, in the order of their positions.
        labels: the labels, likewise, each made from one of the pairs' indexes or from all of them together.

    Raises:
        ValueError: labels that were made from other pairs, or two labels of one pair.
    """
    whole = joined(pairs)
    sources = {index.fingerprint for index in pairs} | {whole.fingerprint}
    foreign = [index for index in labels if index.made_from.get("fingerprint") not in sources]
    if foreign:
        named = "\n".join(index.shards[0].address for index in foreign)
        raise ValueError(
            f"labels that were made from other pairs than {whole.shards[0].address} (their made_from has another "
            f"fingerprint); name the labels of these pairs, or make them again:\n{named}"
        )
    all_labels = joined(labels)
    by_key: Mapping[str, LabelRow] = {entry.key: label_row(entry.key, entry.facts) for entry in all_labels.entries}
    rows = [(pair_row(entry.key, entry.facts), by_key.get(entry.key)) for entry in whole.entries]
    return LabelledPairs(whole, all_labels, rows)
