"""Rows of compared videos as samples: both videos cut alike, and a CSV of the labels."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datamodules.dense.rows import VideoRow
from datamodules.prepare.conversations import UnreadableRowError
from datamodules.prepare.kept_results import Result
from datamodules.prepare.pair_cutter import PairCutter, PairTask, found_video
from datamodules.prepare.pair_layouts import PairLayout, nearest_layout
from datamodules.prepare.pair_verdicts import Verdict
from datamodules.prepare.row_writer import Sample
from datamodules.prepare.rows import SourceRow, sample_key
from datamodules.prepare.workers import Workers
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
        cutter: finds what the rows name, and cuts it.
        source: name for tables; "" = the layout's and the axis.
        rows: in the order in which their samples are asked for.
        skip_bad: go on after a fault.
        workers: run the cutter.
    """

    path: Path
    name: str
    layout: PairLayout
    axis: str | None
    margin: float
    share: float
    cutter: PairCutter
    source: str
    rows: Sequence[SourceRow]
    skip_bad: bool
    workers: Workers
    _labels: list[tuple[str, Verdict]] = field(default_factory=list)
    _first: dict[tuple[str, str, str], str] = field(default_factory=dict)
    _changed: Counter[str] = field(default_factory=Counter)
    _dropped: Counter[str] = field(default_factory=Counter)
    _undecided: int = 0
    _stopped: bool = False
    _verdicts: dict[int, tuple[Verdict, dict[str, float]]] | None = None
    _results: Iterator[Result] | None = None

    def samples(self, row: SourceRow) -> Iterator[Sample]:
        """The pair of a row; none where it is faulty or says nothing."""
        if self._verdicts is None:
            self._stopped = not self.skip_bad and any(other.faults for other in self.rows)
            decided = {id(other): verdict for other in self.rows if (verdict := self._verdict(other)) is not None}
            self._verdicts, self._results = decided, self.workers.results(self._tasks(decided))
        if id(row) in self._verdicts and self._results is not None:
            yield from self._pair(row, next(self._results), *self._verdicts[id(row)])
        self._stopped = self._stopped or bool(row.faults and not self.skip_bad)

    def _verdict(self, row: SourceRow) -> tuple[Verdict, dict[str, float]] | None:
        """The verdict of a row; None after noting why it has none, and then its videos are not looked for."""
        if row.faults:
            return None
        if lacking := self.layout.missing(row.data):
            nearest = nearest_layout(row.data)
            hint = "" if nearest == self.name or self.name == "columns" else f"; the nearest layout is {nearest}"
            row.refuse("row", f"does not fit {self.name}, it has no {', no '.join(lacking)}{hint}")
            return None
        try:
            verdict, scores = self.layout.verdict(row.data, self.axis, self.margin, self.share)
        except UnreadableRowError as error:
            row.refuse(error.field, error.why)
            return None
        # Before its videos are looked for: a pair without a verdict costs no decoding, and their faults do not matter.
        if verdict is None and self.labelled:
            self._undecided += 1
            return None
        return verdict, scores

    def _tasks(self, decided: Mapping[int, Any]) -> Iterator[PairTask]:
        for row in self.rows:
            if id(row) in decided:
                values = [self.layout.value(row.data, name)[1] for name in (self.layout.first, self.layout.second)]
                yield PairTask(values, not self._stopped, None if self._stopped else self.cutter.identity(values))

    def _pair(self, row: SourceRow, result: Result, verdict: Verdict, scores: dict[str, float]) -> Iterator[Sample]:
        videos = [
            video
            for column, facts in zip((self.layout.first, self.layout.second), result.facts, strict=True)
            if (video := self._video(row, column, facts)) is not None
        ]
        prompt = " ".join(str(self.layout.value(row.data, self.layout.prompt)[1]).split())
        if len(videos) < 2:
            return
        (first, first_facts), (second, second_facts) = videos
        if first == second:
            row.refuse(self.layout.second, "is the same video as the first")
        elif (before := self._first.setdefault((first, second, prompt), str(row))) != str(row):
            row.refuse("row", f"repeats {before}: the same videos and prompt")
        try:
            clip = self.cutter.common.of(first_facts, second_facts)
        except ValueError as error:
            row.refuse("videos", str(error))
        if row.faults:
            return
        source = self.source or (f"{self.name}/{self.axis}" if self.axis else self.name)
        # A pair that is no line of the table has a name, which is unique.
        key = row.name or sample_key(self.path, row)
        record = VideoRow(key, f"{first}|{second}", prompt, clip, source, scores)
        if self.labelled:
            # Behind the last check: a row that is refused must leave no label.
            self._labels.append((key, verdict))
        self._count(row.data, first_facts, second_facts, clip)
        yield Sample(record, lambda: result.members)

    @property
    def labelled(self) -> bool:
        """Whether the table says which videos are better."""
        return self.axis is not None or self.layout.scores is not None

    def _video(self, row: SourceRow, column: str, facts: Any) -> tuple[str, VideoFacts] | None:
        try:
            return found_video(facts)
        except ValueError as error:
            row.refuse(self.layout.value(row.data, column)[0], str(error))
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
