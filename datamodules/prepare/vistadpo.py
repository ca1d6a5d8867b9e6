"""VistaDPO's released annotations (JSON lines beside directories of frames) to shards."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from datamodules.prepare.kept_results import KeptResults, Result, identity_of
from datamodules.prepare.parts import described
from datamodules.prepare.row_writer import ShardOutput, write_samples
from datamodules.prepare.rows import UNKNOWN_VIDEO, SourceRow, finite, read_rows, sample_key
from datamodules.prepare.templates import Texts
from datamodules.prepare.worked_rows import RowTask, WorkedRows, row_result
from datamodules.prepare.workers import Workers
from datamodules.shards.index import Index
from datamodules.video.codec import decode_image, encode_mp4
from datamodules.video.containers import require_regular
from datamodules.video.facts import VideoFacts
from datamodules.vista.samples import VIDEO_TOKEN, Box, PreferenceRow

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}

#: Field of the released file -> member of the sample.
_MEMBERS = {"video": "mp4", "clip_w": "clip.mp4", "clip_l": "clip_negative.mp4"}
#: Names that `PreferenceRow` and the released file give to the same thing.
_NAMES = {
    "video_id": "video",
    "question": "prompt",
    "rejected": "rejected",
    "irrelevant": "rejected_2",
    "boxes[0]": "bbox",
}
_TEXTS = ("prompt", "chosen", "rejected", "rejected_2")


def parse_bbox(text: object) -> Box:
    """The box in a string like ``'x': 55.0, 'y': 127.0, 'w': 392.5, 'h': 141.0``, in source pixels.

    Fractions stay here: a box's whole pixels are counted where the box is used, from int(x) to int(x + w).

    Raises:
        ValueError: not four finite numbers x, y, w, h.
    """
    why = f"is not four numbers 'x': .., 'y': .., 'w': .., 'h': .. but {str(text)[:80]!r}"
    try:
        # JSON once the quotes are double: an annotation is never run as code.
        values = json.loads("{" + str(text).strip().strip("{}").replace("'", '"') + "}")
    except (ValueError, RecursionError) as error:
        raise ValueError(why) from error
    numbers = [number for name in "xywh" if (number := finite(values.get(name))) is not None]
    if len(numbers) != 4 or len(values) != 4:
        raise ValueError(why)
    return Box(*numbers)


def natural_order(path: Path) -> list[str | int]:
    """Sort key that puts ``frame_10`` after ``frame_9``."""
    # Not isdigit, which is true of "²", and int() refuses that.
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)]


def pictures(folder: Path) -> list[Path]:
    """The frames in a directory, in natural order; hidden and other files are passed over.

    Raises:
        ValueError: no such directory, or no picture in it.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; extract the frames there")
    # Hidden ones are not frames: macOS leaves a "._frame_1.jpg" beside each file that it packs.
    paths = [path for path in folder.iterdir() if path.suffix.lower() in PICTURES and not path.name.startswith(".")]
    if not paths:
        raise ValueError(f"{folder} holds no pictures ({' '.join(sorted(PICTURES))})")
    return sorted(paths, key=natural_order)


def as_jpeg(picture: bytes) -> bytes:
    """The picture itself where it is a JPEG, else one of it."""
    # By the first bytes: the suffix may say otherwise.
    if picture.startswith(b"\xff\xd8"):
        return picture
    import cv2

    image = decode_image(picture).permute(1, 2, 0).numpy()
    return bytes(cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])[1])


def read_frames(paths: list[Path]) -> Tensor:
    """(T, 3, H, W) uint8 of pictures of one size.

    Raises:
        ValueError: names the first picture that cannot be read, or has another size than the first.
    """
    frames: list[Tensor] = []
    for path in paths:
        try:
            require_regular(path)
            frame = decode_image(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from error
        if frames and frame.shape != frames[0].shape:
            sizes = [f"{picture.shape[2]} x {picture.shape[1]}" for picture in (frame, frames[0])]
            raise ValueError(f"{path.name} is {sizes[0]}, the first picture {sizes[1]}; extract all at one size")
        frames.append(frame)
    return torch.stack(frames)


def prepare_vistadpo(
    rows: str | Path,
    videos: str | Path,
    output: str | Path,
    fps: float = 2.0,
    clips: bool = True,
    objects: bool = True,
    lossless: bool = False,
    skip_bad: bool = False,
    samples_per_shard: int = 64,
    strip_templates: bool = False,
    workers: int | None = None,
    part: str | None = None,
) -> Index:
    """Turn VistaDPO's released annotations into shards; docs/data.md describes both.

    Args:
        rows: the JSONL of annotations, ``object_set.jsonl`` for one.
        videos: the folder of the rows' video, clip_w, clip_l and frame directories.
        output: folder and common name of the shards; for a folder alone they are named as `rows`.
        fps: frames per second of the directories. The release does not say; 2 is our choice.
        clips: pack the event clip and the clip without the event, where a row names them.
        objects: pack box and key frame, where a row has them.
        lossless: encode without loss; several times as large.
        skip_bad: write the good rows, and list the bad ones with their faults in ``OUTPUT.skipped.jsonl``.
        samples_per_shard: samples in one tar file.
        strip_templates: remove what looks like a chat template around a text (``<image>`` at its start, ``USER:``).
        workers: processes that read frames and encode; null = the free cores, where it takes longer than they take to
            start. The shards are the same whatever their number.
        part: as 2/8, the second of eight parts of the rows, to ``OUTPUT.part2of8``; `prepare join OUTPUT` joins them.

    Raises:
        ValueError: lists every fault of every row, and nothing is written; or shards of that name exist.
    """
    options = dict(locals())
    path, videos = Path(rows), Path(videos)
    if not videos.is_dir():
        raise ValueError(f"{videos}: no such folder; give the one of the directories of frames")
    if not 0 < fps < math.inf:
        raise ValueError(f"fps must be above 0, not {fps}")
    # The released prompts hold a video token, which is removed always and nothing to warn of.
    texts = Texts(_TEXTS, strip_templates, own_token=VIDEO_TOKEN)
    all_rows = read_rows(path, ("video", "prompt"), texts)
    target = ShardOutput.named(options, path, all_rows)
    selected, checker = target.share(all_rows), _Checker(path, videos, fps, clips, objects, lossless)
    with Workers(checker, KeptResults.of(target.prefix), workers) as processes:
        samples = WorkedRows(selected, skip_bad, processes, checker.identity)
        return write_samples(selected, path, samples, target)


@dataclass(frozen=True, slots=True)
class _Checker:
    """Checker of rows: what is wrong with one, or the files of its sample."""

    annotations: Path
    videos: Path
    fps: float
    clips: bool
    objects: bool
    lossless: bool

    def __call__(self, task: RowTask) -> Result:
        row = task.row
        given = self._given(row)
        shown = {name: self._frames(row, name) for name in ("video", "clip_w", "clip_l") if name in given}
        facts: dict[str, VideoFacts | None] = dict.fromkeys(shown)
        for name, frames in shown.items():
            if frames is not None:
                count, _, height, width = frames.shape
                facts[name] = VideoFacts(count, self.fps, width, height)
        # Its boxes are in pixels of the video's frames, so both must have one size.
        picture = self._key_frame(row, facts["video"]) if "frame" in given else None
        boxes: tuple[Box, ...] = ()
        if "bbox" in given:
            try:
                boxes = (parse_bbox(row.data["bbox"]),)
            except ValueError as error:
                row.refuse("bbox", str(error))
        # "a//b" and "a/./b" are one video.
        video_id = str(PurePosixPath(row.text("video")))
        preference = PreferenceRow(
            key=sample_key(self.annotations, row),
            video_id=video_id,
            question=re.sub(r"<video>\n?", "", row.text("prompt")).strip(),
            chosen=row.text("chosen"),
            rejected=row.text("rejected"),
            irrelevant=row.optional_text("rejected_2"),
            boxes=boxes,
            video=facts["video"] or UNKNOWN_VIDEO,
            clip=facts.get("clip_w"),
            clip_negative=facts.get("clip_l"),
            key_frame=picture is not None,
            source=video_id.split("/")[0] if "/" in video_id else "",
        )
        row.refuse_all(preference.faults(), _NAMES)
        members: dict[str, bytes] = {}
        if not row.faults and task.encoded:
            for name, frames in shown.items():
                if frames is not None:
                    members[_MEMBERS[name]] = encode_mp4(frames, self.fps, self.lossless)
            if picture is not None:
                members["frame.jpg"] = picture
        return row_result(row, preference, members)

    def identity(self, row: SourceRow) -> str | None:
        """See `Task`: with names, sizes and times of all pictures that the row names."""
        folders = (row.data.get(name) for name in ("video", "clip_w", "clip_l", "frame"))
        named = sorted({self.videos / folder for folder in folders if isinstance(folder, str) and folder.strip()})
        pictures_of = [path for folder in named if folder.is_dir() for path in sorted(folder.iterdir())]
        stats = ((path, path.stat()) for path in pictures_of if path.is_file())
        files = [[str(path), stat.st_size, stat.st_mtime_ns] for path, stat in stats]
        return identity_of(self.annotations, described(self), row.number, row.data, row.stripped, files)

    def _given(self, row: SourceRow) -> set[str]:
        """The fields to use; notes where half of a pair is missing."""
        given = {"video"}
        for used, pair in ((self.clips, ("clip_w", "clip_l")), (self.objects, ("bbox", "frame"))):
            present = [name for name in pair if used and row.data.get(name) is not None]
            # Clip and box have no meaning without their other half.
            if len(present) == 1:
                missing = pair[1 - pair.index(present[0])]
                row.refuse(missing, f"is missing; {pair[0]} and {pair[1]} come together")
            given.update(present)
        return given

    def _pictures(self, row: SourceRow, name: str) -> list[Path]:
        """The pictures in the directory that a field names; none after noting why."""
        folder = row.text(name)
        try:
            if PurePosixPath(folder).is_absolute() or ".." in PurePosixPath(folder).parts:
                raise ValueError(f"{folder!r} leaves the folder of videos")
            return pictures(self.videos / folder) if folder.strip() else []
        except ValueError as error:
            row.refuse(name, str(error))
            return []

    def _frames(self, row: SourceRow, name: str) -> Tensor | None:
        try:
            paths = self._pictures(row, name)
            return read_frames(paths) if paths else None
        except ValueError as error:
            row.refuse(name, str(error))
            return None

    def _key_frame(self, row: SourceRow, video: VideoFacts | None) -> bytes | None:
        """The first picture of the ``frame`` directory as a JPEG. Box and video must share its size."""
        paths = self._pictures(row, "frame")[:1]
        if not paths:
            return None
        try:
            _, _, height, width = read_frames(paths).shape
        except ValueError as error:
            row.refuse("frame", str(error))
            return None
        if video is not None and (width, height) != (video.width, video.height):
            size = f"{paths[0].name} is {width} x {height}, the video {video.width} x {video.height}"
            row.refuse("frame", f"{size}; extract both at one size")
        return as_jpeg(paths[0].read_bytes())
