"""Preference data that other suites and data sets wrote for video-language models, to shards."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from datamodules.prepare.conversations import UnreadableRowError
from datamodules.prepare.dataset_info import renamed_columns
from datamodules.prepare.imported_videos import ImportedVideo, VideoFinder
from datamodules.prepare.own_videos import videos_folder
from datamodules.prepare.preference_formats import FACT_TYPES, FACTS, FORMATS, format_of, misfit
from datamodules.prepare.preference_readers import ReadRow
from datamodules.prepare.row_writer import Sample, ShardOutput, output_prefix, write_samples
from datamodules.prepare.rows import UNKNOWN_VIDEO, SourceRow, sample_key
from datamodules.prepare.tables import read_table
from datamodules.prepare.templates import Texts
from datamodules.shards.index import Index
from datamodules.video.facts import VideoFacts
from datamodules.vista.samples import PreferenceRow

FormatName = Literal[
    "auto",
    "swift",
    "llamafactory",
    "llamafactory_v1",
    "trl",
    "qwen_vl",
    "verl_omni",
    "llava_hound",
    "longvpo",
    "unified_reward",
    "omni_preference",
    "align_anything",
]
#: Faults that a message lists; the others are counted.
LISTED = 10
_TEXTS = ("question", "chosen", "rejected")


def prepare_preferences(
    file: str | Path,
    output: str | Path,
    format: FormatName = "auto",
    media: str | Path | None = None,
    media_prefix: str = "",
    fps: float = 1.0,
    lossless: bool = False,
    source: str = "",
    skip_bad: bool = False,
    samples_per_shard: int = 64,
    check: Literal["full", "quick"] = "full",
    strip_templates: bool = False,
) -> Index:
    """Turn preference data of other suites into shards; docs/data.md lists the formats.

    Args:
        file: JSON lines, a JSON list, a CSV or a parquet file.
        output: folder and common name of the shards; for a folder alone they are named as `file`.
        format: whose rows these are; auto takes the one that most rows fit.
        media: the folder in which relative video paths begin; null = the folder of `file`.
        media_prefix: taken off the beginning of video paths before they are joined to `media`, as /data/clips.
        fps: frames per second of videos that are folders or lists of frames (LLaVA-Hound's are at 1).
        lossless: encode such videos without loss; several times as large.
        source: a name for tables; "" = the format's. The row's kind of task, if it has one, comes behind it.
        skip_bad: write the good rows, and list the bad ones with their faults in ``OUTPUT.skipped.jsonl``.
        samples_per_shard: samples in one tar file.
        check: full decodes every frame of every mp4 once; quick the first alone.
        strip_templates: remove what looks like a chat template around a text (``<image>`` at its start, ``USER:``).

    Raises:
        ValueError: the faults of the rows, and nothing is written; no format fits; or shards of that name exist.
    """
    path = Path(file)
    folder = videos_folder(media, path.parent)
    if not 0 < fps < math.inf:
        raise ValueError(f"fps is {fps:g}; give a number above 0")
    rows = read_table(path)
    rename = renamed_columns(path) or dict
    content = [rename(row.data) for row in rows]
    name = most_frequent_format(path, rows, content) if format == "auto" else format
    videos = VideoFinder(folder, media_prefix, fps, lossless, check == "full")
    importer = _Importer(path, name, source or name, videos)
    importer.read(rows, content, Texts(_TEXTS, strip_templates), strict=format == "auto")
    target = ShardOutput(output_prefix(output, path), skip_bad, samples_per_shard)
    index = write_samples(rows, path, importer.samples, target, max_listed=LISTED)
    print(importer.remark(len(rows)))
    return index


def most_frequent_format(path: Path, rows: Sequence[SourceRow], content: Sequence[Mapping[str, Any]]) -> str:
    """The format that most rows fit.

    Raises:
        ValueError: none fits any row; says what the first row lacks for the nearest one.
    """
    # By all rows: the first one may be faulty.
    fitting = Counter(name for fields in content if fields and (name := format_of(fields)))
    if fitting:
        return fitting.most_common(1)[0][0]
    row, fields = next(((row, fields) for row, fields in zip(rows, content, strict=True) if fields), (rows[0], {}))
    if not fields:
        raise ValueError(f"{path}: {row}, {row.faults[0]}")
    fault = misfit(fields, None)
    raise ValueError(f"{path}: {row}, {fault}; the formats are {', '.join(FORMATS)}")


def facts_of(video: ImportedVideo | None) -> VideoFacts:
    """The facts of a video, or a stand-in for one that could not be read."""
    return video.facts if video else UNKNOWN_VIDEO


@dataclass(eq=False)
class _Importer:
    """Makes samples of rows, or notes what is wrong with them, and counts what is not taken along.

    Attributes:
        path: of the file.
        format: of its rows.
        source: name for tables.
        videos: finds what the rows name.
    """

    path: Path
    format: str
    source: str
    videos: VideoFinder
    _read: dict[int, ReadRow] = field(default_factory=dict)
    _texts: dict[int, SourceRow] = field(default_factory=dict)
    _kept: Counter[str] = field(default_factory=Counter)
    _dropped: Counter[str] = field(default_factory=Counter)
    _undecided: int = 0
    _video_alone: int = 0

    def read(self, rows: Sequence[SourceRow], content: Sequence[Mapping[str, Any]], texts: Texts, strict: bool) -> None:
        """Read all rows, before any video is opened.

        Args:
            rows: of the file.
            content: their fields under the format's usual names.
            texts: what becomes of chat templates.
            strict: whether a row that is nearer to another format is a fault, though it has what this one needs.
        """
        format_ = FORMATS[self.format]
        first: dict[str, int] = {}
        for row, fields in zip(rows, content, strict=True):
            if row.faults:
                continue
            try:
                if format_.missing(fields) or (strict and not format_.fits(fields)):
                    raise misfit(fields, self.format)
                read = format_.read(fields)
            except UnreadableRowError as error:
                row.refuse(error.field, error.why)
                continue
            if read is None:
                self._undecided += 1
                continue
            self._dropped.update([*format_.dropped(fields), *read.dropped])
            same = json.dumps([read.turns, read.question, read.chosen, read.rejected, read.video, read.rejected_video])
            # A row may hold a whole video.
            same = hashlib.sha256(same.encode()).hexdigest()
            if (before := first.setdefault(same, row.number)) != row.number:
                row.refuse("row", f"repeats row {before}: the same video, question and answers")
            # By identity: rows are not hashable, and two lines may be equal.
            self._read[id(row)] = read
            texts_of_row = {"question": read.question, "chosen": read.chosen, "rejected": read.rejected}
            self._texts[id(row)] = SourceRow(row.number, "", texts_of_row)
        # After the last row, for one warning about the whole file.
        texts.clean(self.path, list(self._texts.values()))

    def samples(self, row: SourceRow) -> Iterator[Sample]:
        """The sample of a row that could be read; what is wrong with its video is noted."""
        read = self._read.get(id(row))
        if read is None:
            return
        video = self._video(row, "video", read.video)
        rejected_video = None
        if read.rejected_video is not None:
            rejected_video = self._video(row, "rejected_video", read.rejected_video)
        own = {name: row.data[name] for name in FACTS if name in row.data} | read.facts
        facts = {name: value for name, value in own.items() if isinstance(value, FACT_TYPES) and value != ""}
        texts = self._texts[id(row)]
        kind = next((facts[name] for name in ("task_type", "type", "category") if name in facts), "")
        preference = PreferenceRow(
            key=sample_key(self.path, row),
            video_id=video.video_id if video else "-",
            question=texts.text("question"),
            chosen=texts.text("chosen"),
            rejected=texts.optional_text("rejected") or "",
            video=facts_of(video),
            source=f"{self.source}/{kind}" if kind else self.source,
            rejected_video=None if read.rejected_video is None else facts_of(rejected_video),
            turns=tuple((turn.question, turn.answer) for turn in read.turns),
            facts=facts,
        )
        row.refuse_all([*texts.faults, *preference.faults()], {})
        if row.faults or video is None:
            return
        self._kept.update(list(facts))
        self._video_alone += not preference.rejected
        given = {"mp4": video} | ({"rejected.mp4": rejected_video} if rejected_video else {})
        yield Sample(preference, lambda: {suffix: member.content() for suffix, member in given.items()})

    def _video(self, row: SourceRow, name: str, value: Any) -> ImportedVideo | None:
        try:
            return self.videos(value)
        except ValueError as error:
            row.refuse(name, str(error))
            return None

    def remark(self, total: int) -> str:
        """What was read, kept and dropped, in one or a few lines."""
        lines = [f"{self.path}: {total} rows read as {self.format} ({FORMATS[self.format].title} format)"]
        if self._video_alone:
            lines.append(f"  differ in the video alone, shown by the negative GivenVideo: {self._video_alone}")
        if self._undecided:
            lines.append(f"  left out, because they prefer neither answer: {self._undecided}")
        for what, counts in (("kept as facts", self._kept), ("dropped", self._dropped)):
            if counts:
                lines.append(f"  {what}: {', '.join(f'{name} {count}' for name, count in sorted(counts.items()))}")
        return "\n".join(lines)
