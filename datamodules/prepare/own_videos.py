"""The user's own videos with preference annotations (JSON lines; docs/data.md) to shards."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from datamodules.prepare.checked_mp4s import CheckedMp4s, Mp4Check
from datamodules.prepare.kept_results import KeptResults
from datamodules.prepare.other_formats import refuse_other_formats
from datamodules.prepare.row_writer import Sample, ShardOutput, write_samples
from datamodules.prepare.rows import UNKNOWN_VIDEO, SourceRow, finite, read_rows, sample_key
from datamodules.prepare.templates import Texts
from datamodules.prepare.workers import Workers
from datamodules.shards.index import Index
from datamodules.video.facts import VideoFacts
from datamodules.vista.samples import Box, PreferenceRow

FIELDS = ("video", "question", "chosen", "rejected", "irrelevant", "event", "boxes", "source", "facts")

#: Names that `PreferenceRow` and the annotation file give to the same thing.
_NAMES = {"video_id": "video"}
_TEXTS = ("question", "chosen", "rejected", "irrelevant")
_BOX_FIELDS = ("x", "y", "width", "height", "time")


def prepare_jsonl(
    rows: str | Path,
    output: str | Path,
    videos: str | Path | None = None,
    skip_bad: bool = False,
    samples_per_shard: int = 64,
    check: Literal["full", "quick"] = "full",
    strip_templates: bool = False,
    workers: int | None = None,
    part: str | None = None,
) -> Index:
    """Turn mp4 files and a JSONL of preferences into shards; docs/data.md describes both. Videos are not re-encoded.

    Args:
        rows: the JSONL of annotations.
        output: folder and common name of the shards; for a folder alone they are named as `rows`.
        videos: the folder in which relative video paths begin; None = the folder of `rows`.
        skip_bad: write the good rows, and list the bad ones with their faults in ``OUTPUT.skipped.jsonl``.
        samples_per_shard: samples in one tar file.
        check: full decodes every frame of every video once; quick the first alone, so that damage further on is met
            only by the run that trains on it.
        strip_templates: remove what looks like a chat template around a text (``<image>`` at its start, ``USER:``).
        workers: processes that decode; null = the free cores, where it takes longer than they take to start.
        part: as 2/8, the second of eight parts of the rows, to ``OUTPUT.part2of8``; `prepare join OUTPUT` joins them.

    Raises:
        ValueError: lists every fault of every row, and nothing is written; or shards of that name exist.
    """
    options = dict(locals())
    path = Path(rows)
    root = videos_folder(videos, path.parent)
    refuse_other_formats(path, output)
    unique = ("video", "question", "chosen", "rejected")
    all_rows = read_rows(path, unique, Texts(_TEXTS, strip_templates))
    target = ShardOutput.named(options, path, all_rows)
    selected, every_frame = target.share(all_rows), check == "full"
    with Workers(Mp4Check(every_frame), KeptResults.of(target.prefix), workers) as processes:
        paths = [video for row in selected if row.data and (video := _video_path(row, root)) is not None]
        facts_of = CheckedMp4s(processes, paths, every_frame)

        def samples_of(row: SourceRow) -> Iterator[Sample]:
            sample = _checked(row, path, root, facts_of) if row.data else None
            if sample is not None:
                yield sample

        return write_samples(selected, path, samples_of, target)


def _video_path(row: SourceRow, root: Path) -> Path | None:
    """The file that a row names, or None; its faults are noted when the row is checked."""
    trial = SourceRow(row.number, row.line, row.data, [], row.name, row.stripped)
    name = trial.text("video")
    named = all(fault.field != "video" for fault in (*row.faults, *trial.faults))
    # Not resolved: a link is the video that it is called by.
    return Path(os.path.normpath(root / name)) if named else None


def videos_folder(given: str | Path | None, default: Path) -> Path:
    """The folder in which relative paths of videos begin.

    Raises:
        ValueError: there is no such folder.
    """
    folder = default if given is None else Path(given)
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; give the one in which the videos' paths begin")
    return folder


def _checked(
    row: SourceRow, annotations: Path, root: Path, facts_of: Callable[[Path], VideoFacts | str]
) -> Sample | None:
    """The sample of a row, or None after noting what is wrong with it."""
    for name in sorted(set(row.data) - set(FIELDS)):
        row.refuse(name, f"is no field of this format; there are {', '.join(FIELDS)}")
    # Not resolved: a link is the video that it is called by.
    path = Path(os.path.normpath(root / row.text("video")))
    video = None
    # A field that was refused names no file to look for.
    if all(fault.field != "video" for fault in row.faults):
        facts = facts_of(path)
        if isinstance(facts, VideoFacts):
            video = facts
        else:
            row.refuse("video", facts)
    preference = PreferenceRow(
        key=sample_key(annotations, row),
        video_id=Path(os.path.relpath(path, root)).as_posix(),
        question=row.text("question"),
        chosen=row.text("chosen"),
        rejected=row.text("rejected"),
        irrelevant=row.optional_text("irrelevant"),
        event=read_event(row),
        boxes=read_boxes(row),
        video=video or UNKNOWN_VIDEO,
        source=row.optional_text("source") or "",
        facts=read_facts(row),
    )
    row.refuse_all(preference.faults(), _NAMES)
    return None if row.faults else Sample(preference, lambda: {"mp4": path.read_bytes()})


def read_event(row: SourceRow) -> tuple[float, float] | None:
    """The event of a row; None where it has none, or (then a fault is noted) something else."""
    value = row.data.get("event")
    if value is None:
        return None
    times = [finite(time) for time in value] if isinstance(value, list) else []
    match times:
        case [float(start), float(end)]:
            return start, end
    row.refuse("event", f"is not [start, end] in seconds but {json.dumps(value)[:60]}")
    return None


def read_boxes(row: SourceRow) -> tuple[Box, ...]:
    """The boxes; a faulty one is noted and replaced, so that faults of the next ones name them by their own index."""
    value = row.data.get("boxes")
    if value is None:
        return ()
    if not isinstance(value, list):
        row.refuse("boxes", "is not a list of objects with x, y, width, height and, optionally, time")
        return ()
    boxes = []
    for index, item in enumerate(value):
        fields = item if isinstance(item, dict) else {}
        # A time of null is no time.
        numbers = {name: finite(given) for name, given in fields.items() if (name, given) != ("time", None)}
        if None in numbers.values() or not set(_BOX_FIELDS[:4]) <= set(numbers) <= set(_BOX_FIELDS):
            form = "numbers x, y, width, height (pixels) and, optionally, time (seconds)"
            row.refuse(f"boxes[{index}]", f"is not {form} but {json.dumps(item)[:80]}")
            numbers = dict.fromkeys(_BOX_FIELDS[:4], 1.0)
        boxes.append(Box(**{name: given for name, given in numbers.items() if given is not None}))
    return tuple(boxes)


def read_facts(row: SourceRow) -> dict[str, Any]:
    """What else is known of a row, as confidences of its annotation; empty where nothing is."""
    value = row.data.get("facts")
    if value is not None and not isinstance(value, dict):
        row.refuse("facts", f"is not an object of names and values but {json.dumps(value)[:60]}")
        return {}
    return value or {}
