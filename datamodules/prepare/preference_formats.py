"""The formats of preference data for video-language models that other suites and data sets write, as one table.

A format is a name, the fields by which its rows are known, and a function that reads one row. A new one is an entry of
`FORMATS` and such a function in `preference_readers`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from datamodules.prepare.conversations import UnreadableRowError
from datamodules.prepare.preference_readers import (
    PICTURES_ONLY,
    ReadRow,
    Row,
    has,
    read_align_anything,
    read_llamafactory,
    read_llamafactory_v1,
    read_omni_preference,
    read_plain,
    read_prompted,
    read_qwen_vl,
    read_swift,
)
from datamodules.prepare.vistadpo import PICTURES

#: Fields that say something about a row and are kept with it, whatever the format; others are dropped.
FACTS = (
    "id", "idx", "task_type", "type", "category", "data_source", "ds_name", "origin_dataset", "ability", "dataset",
    "answer", "chosen_score", "rejected_score", "win_score", "lose_score", "score", "margin", "channel",
)  # fmt: skip
#: Facts are plain values; a list or an object under one of these names is dropped.
FACT_TYPES = (str, int, float)


@dataclass(frozen=True, slots=True)
class Format:
    """A format.

    Attributes:
        title: whose it is.
        needs: fields that every row has; "a|b" = one of the two.
        marks: fields of which a row has at least one, which tell the format from others; empty = none are needed.
        reads: the fields that are read besides those of `needs`.
        read: makes something of a row that has what it needs; None = the row says that neither answer is better.
        typed: what else tells it from others.
    """

    title: str
    needs: tuple[str, ...]
    read: Callable[[Row], ReadRow | None]
    marks: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    typed: Callable[[Row], bool] = lambda row: True

    def missing(self, row: Row) -> list[str]:
        """The fields that a row lacks."""
        lacking = [need for need in self.needs if not any(has(row, name) for name in need.split("|"))]
        return lacking + (
            [" or ".join(self.marks)] if self.marks and not any(has(row, name) for name in self.marks) else []
        )

    def fits(self, row: Row) -> bool:
        """Whether a row may be of this format."""
        return not self.missing(row) and self.typed(row)

    def dropped(self, row: Row) -> list[str]:
        """The fields of a row that are neither read nor kept."""
        known = {name for need in self.needs for name in need.split("|")} | {*self.reads}
        known |= {name for name in FACTS if isinstance(row.get(name), FACT_TYPES)}
        return [name for name in row if has(row, name) and name not in known]


def _names_a_video(row: Row) -> bool:
    """Whether ``image`` may be a path to a video, which UnifiedReward's rows call so."""
    return isinstance(row.get("image"), str) and PurePosixPath(row["image"]).suffix.lower() not in PICTURES


def _of_messages(row: Row) -> bool:
    return isinstance(row.get("prompt"), list) or has(row, "videos")


_REJECTED = ("rejected_response", "rejected_messages", "rejected_videos")
#: By name, in the order in which they are tried: what is known by more comes first.
FORMATS: dict[str, Format] = {
    "omni_preference": Format("Omni-Preference's", ("messages", "solution", "videos|video"), read_omni_preference),
    "swift": Format(
        "ms-swift's",
        ("messages",),
        read_swift,
        marks=_REJECTED,
        reads=("videos", "video", *_REJECTED),
    ),
    "llamafactory_v1": Format("LLaMA-Factory v1's", ("chosen_messages", "rejected_messages"), read_llamafactory_v1),
    "llamafactory": Format(
        "LLaMA-Factory's",
        ("conversations|instruction", "chosen", "rejected"),
        read_llamafactory,
        reads=("input", "history", "videos", "video"),
    ),
    "verl_omni": Format(
        "verl-omni's",
        ("prompt", "chosen", "rejected"),
        read_prompted,
        marks=("data_source", "win_score", "reward_model", "ability"),
        reads=("videos", "video"),
    ),
    "trl": Format(
        "TRL's", ("prompt", "chosen", "rejected"), read_prompted, reads=("videos", "video"), typed=_of_messages
    ),
    "align_anything": Format(
        "align-anything's",
        ("prompt", "video_path", "response_1", "response_2", "overall_response"),
        read_align_anything,
    ),
    "llava_hound": Format(
        "LLaVA-Hound's",
        ("prompt", "video", "chosen", "rejected"),
        read_plain("prompt", "video"),
        marks=("chosen_score", "rejected_score", "answer"),
    ),
    "longvpo": Format("LongVPO's", ("video", "question", "chosen", "rejected"), read_plain("question", "video")),
    "unified_reward": Format(
        "UnifiedReward's",
        ("image", "prompt", "chosen", "rejected"),
        read_plain("prompt", "image"),
        typed=_names_a_video,
    ),
    "qwen_vl": Format("Qwen-VL-Series-Finetune's", ("video|image", "prompt", "chosen", "rejected"), read_qwen_vl),
}


def format_of(row: Row) -> str | None:
    """The format of a row; None = it fits none."""
    return next((name for name, format_ in FORMATS.items() if format_.fits(row)), None)


def nearest_format(row: Row) -> str:
    """The format of a row, or the one of whose fields the row has the largest share."""

    def share(name: str) -> float:
        format_ = FORMATS[name]
        total = len(format_.needs) + bool(format_.marks)
        # A share, not a number: otherwise formats of few fields would always be the nearest.
        return 1 - len(format_.missing(row)) / total

    return format_of(row) or max(FORMATS, key=share)


def misfit(row: Row, name: str | None) -> UnreadableRowError:
    """What is said of a row that does not fit a format (None = any): what it lacks, and the nearest format."""
    pictures = [media for media in ("images", "image", "image_path") if has(row, media)]
    # Such rows lack a video in every format; that they are of pictures says more than the name of a field.
    if pictures and not any("video" in field for field in row):
        return UnreadableRowError(pictures[0], PICTURES_ONLY)
    nearest = nearest_format(row)
    lacking = FORMATS[name].missing(row) if name else []
    why = f"does not fit {name or 'any format'}" + (f", it has no {', no '.join(lacking)}" if lacking else "")
    if nearest != name:
        more = FORMATS[nearest].missing(row)
        why += f"; the nearest format is {nearest}" + (f", for which it lacks {', '.join(more)}" if more else "")
    return UnreadableRowError("row", f"{why} (its fields: {', '.join(list(row)[:8])})")
