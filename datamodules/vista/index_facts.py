"""Facts of a VistaDPO sample for the index, and the check of a sample on its way into a shard."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from datamodules.vista.samples import PreferenceRow


def vista_facts(row: PreferenceRow) -> dict[str, Any]:
    """What plan and negatives need to know of a row before it is read: everything but the texts."""
    given: dict[str, Any] = {} if row.rejected_video is None else {"negative": asdict(row.rejected_video)}
    # Said only where there is none: the facts of other rows are those of version 1.
    given |= {} if row.rejected else {"rejected": False}
    return {
        "video_id": row.video_id,
        **asdict(row.video),
        "event": None if row.event is None else list(row.event),
        "boxes": [[box.x, box.y, box.width, box.height, box.time] for box in row.boxes],
        "irrelevant": row.irrelevant is not None,
        "clip": None if row.clip is None else asdict(row.clip),
        "clip_negative": None if row.clip_negative is None else asdict(row.clip_negative),
        "key_frame": row.key_frame,
        "source": row.source,
        **given,
    }


def vista_sample_facts(key: str, record: Any, suffixes: Collection[str]) -> dict[str, Any]:
    """`vista_facts` of a sample in a shard, its row and members checked against each other.

    Raises:
        ValueError: lists every fault.
    """
    # `faults` too, as a record of a right form may hold values of wrong types.
    try:
        row = PreferenceRow.from_json(record)
        faults = [str(fault) for fault in row.faults()]
        facts = vista_facts(row)
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f".json is not a preference row: {error}") from error
    if row.key != key:
        faults.append(f"key: the row says {row.key!r}")
    needed = {
        "mp4": True,
        "clip.mp4": row.clip is not None,
        "clip_negative.mp4": row.clip_negative is not None,
        "rejected.mp4": row.rejected_video is not None,
        "frame.jpg": row.key_frame,
    }
    faults += [f".{suffix} is missing" for suffix, is_needed in needed.items() if is_needed and suffix not in suffixes]
    if faults:
        raise ValueError("; ".join(faults))
    return facts
