"""Rows of compared videos as samples: both videos cut alike, and a CSV of the labels."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datamodules.dense.rows import VideoRow
from datamodules.prepare.common_clip import CommonFormat, clip_bytes
from datamodules.prepare.conversations import UnreadableRowError
from datamodules.prepare.imported_videos import ImportedVideo, VideoFinder
from datamodules.prepare.pair_layouts import PairLayout, nearest_layout
from datamodules.prepare.pair_verdicts import Verdict
from datamodules.prepare.row_writer import Sample
from datamodules.prepare.rows import SourceRow, sample_key
from datamodules.shards.files import write_whole
from datamodules.video.facts import VideoFacts

_LABELS: Mapping[Verdict, str] = {1: "first", -1: "second", 0: "tie"}


@dataclass(eq=False)
class PairMaker:
    """Maker of samples: both videos of a row, cut alike, and its label; counts what is changed, dropped and left out.

    Attributes:
        path: of the table.
        name: of the layout.
        layout: the columns.
        axis: what is compared; None where the table has no words for it.
        margin: see `prepare_pairs`.
        share: see `prepare_pairs`.
        videos: finds what the rows name.
        common: what both videos are made to be.
        source: name for tables; "" = the layout's and the axis.
        lossless: how frames are encoded again.
    """

    path: Path
    name: str
    layout: PairLayout
    axis: str | None
    margin: float
    share: float
    videos: VideoFinder
    common: CommonFormat
    source: str
    lossless: bool
    _labels: list[tuple[str, Verdict]] = field(default_factory=list)
    _first: dict[tuple[str, str, str], str] = field(default_factory=dict)
    _changed: Counter[str] = field(default_factory=Counter)
    _dropped: Counter[str] = field(default_factory=Counter)
    _undecided: int = 0

    def samples(self, row: SourceRow) -> Iterator[Sample]:
        """The pair of a row; none where it is faulty or says nothing."""
        if row.faults:
            return
        if lacking := self.layout.missing(row.data):
            nearest = nearest_layout(row.data)
            hint = "" if nearest == self.name or self.name == "columns" else f"; the nearest layout is {nearest}"
            row.refuse("row", f"does not fit {self.name}, it has no {', no '.join(lacking)}{hint}")
            return
        try:
            verdict, scores = self.layout.verdict(row.data, self.axis, self.margin, self.share)
        except UnreadableRowError as error:
            row.refuse(error.field, error.why)
            return
        # Before its videos are looked for: a pair without a verdict costs no decoding, and their faults do not matter.
        if verdict is None and self.labelled:
            self._undecided += 1
            return
        first, second = self._video(row, self.layout.first), self._video(row, self.layout.second)
        prompt = " ".join(str(self.layout.value(row.data, self.layout.prompt)[1]).split())
        if first is None or second is None:
            return
        pair = (first.video_id, second.video_id, prompt)
        if first.video_id == second.video_id:
            row.refuse(self.layout.second, "is the same video as the first")
        elif (before := self._first.setdefault(pair, str(row))) != str(row):
            row.refuse("row", f"repeats {before}: the same videos and prompt")
        try:
            clip = self.common.of(first.facts, second.facts)
        except ValueError as error:
            row.refuse("videos", str(error))
        if row.faults:
            return
        yield self._sample(row, prompt, (first, second), clip, verdict, scores)

    def _sample(
        self,
        row: SourceRow,
        prompt: str,
        videos: tuple[ImportedVideo, ImportedVideo],
        clip: VideoFacts,
        verdict: Verdict,
        scores: dict[str, float],
    ) -> Sample:
        first, second = videos
        source = self.source or (f"{self.name}/{self.axis}" if self.axis else self.name)
        # A pair that is no line of the table has a name, which is unique.
        key = row.name or sample_key(self.path, row)
        record = VideoRow(key, f"{first.video_id}|{second.video_id}", prompt, clip, source, scores)
        if self.labelled:
            # Behind the last check: a row that is refused must leave no label.
            self._labels.append((key, verdict))
        self._count(row.data, first.facts, second.facts, clip)
        # Encoded when it is written: the frames of all pairs would not fit into memory.
        return Sample(
            record,
            lambda: {
                "first.mp4": clip_bytes(first, clip, self.lossless),
                "second.mp4": clip_bytes(second, clip, self.lossless),
            },
        )

    @property
    def labelled(self) -> bool:
        """Whether the table says which videos are better."""
        return self.axis is not None or self.layout.scores is not None

    def _video(self, row: SourceRow, column: str) -> ImportedVideo | None:
        name, value = self.layout.value(row.data, column)
        try:
            return self.videos(value)
        except ValueError as error:
            row.refuse(name, str(error))
            return None

    def _count(self, data: Mapping[str, Any], first: VideoFacts, second: VideoFacts, clip: VideoFacts) -> None:
        """Count what of a pair changes, and the columns of the table that are not taken along."""
        self._changed["rate"] += {first.fps, second.fps} != {clip.fps}
        # Durations are quotients: two that are equal may differ in the last digit.
        self._changed["length"] += any(abs(v.duration - clip.duration) > 1e-6 for v in (first, second))
        self._changed["size"] += {(v.height, v.width) for v in (first, second)} != {(clip.height, clip.width)}
        layout = self.layout
        read = {name for need in (layout.first, layout.second, layout.prompt) for name in need.split("|")}
        read |= {*(layout.scores or ()), *layout.kept, layout.axes.get(self.axis or "", "")}
        read |= {name.format(axis=self.axis) for name in layout.votes or ()}
        self._dropped.update(name for name, value in data.items() if name not in read and value not in (None, "", []))

    def write_labels(self, prefix: Path) -> None:
        """The CSV of whole-video labels that `prepare labels` reads."""
        if not self.labelled:
            return
        file = io.StringIO()
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("key", "segment", "label"))
        table.writerows((key, "whole", _LABELS[verdict]) for key, verdict in self._labels)
        write_whole(_labels_path(prefix), file.getvalue().encode())

    def remark(self, prefix: Path) -> str:
        """What was read, changed and left out."""
        what = f", compared on {self.axis}" if self.axis else ""
        lines = [f"{self.path}: read as {self.name} ({self.layout.title} layout){what}"]
        if self.labelled:
            counts = Counter(_LABELS[verdict] for _, verdict in self._labels)
            listed = ", ".join(f"{name} {counts[name]}" for name in _LABELS.values())
            lines.append(f"  labels of whole videos in {_labels_path(prefix)}: {listed}")
        if self._undecided:
            lines.append(f"  left out, because no label is valid: {self._undecided}")
        changed = ", ".join(f"{name} {count}" for name, count in self._changed.items() if count)
        if changed:
            lines.append(f"  pairs cut to what both videos have, by what changed: {changed}")
        if self._dropped:
            lines.append(f"  dropped: {', '.join(f'{name} {count}' for name, count in sorted(self._dropped.items()))}")
        return "\n".join(lines)


def _labels_path(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.labels.csv")
