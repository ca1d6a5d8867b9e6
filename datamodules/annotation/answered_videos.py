"""Videos with a question and a right answer, for `predict` to propose the rest of their annotation."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.prepare.own_videos import FIELDS, read_boxes, read_event, read_facts
from datamodules.prepare.rows import SourceRow, read_rows, sample_key
from datamodules.questions.files import listed
from datamodules.stream.hand_out import HandOut, HandOutMode
from datamodules.stream.planned_data import require_least
from datamodules.stream.predict_data import batches_of
from datamodules.stream.worker_signals import ignore_stop_signals
from datamodules.video.codec import decode_each, probe
from datamodules.video.facts import VideoFacts
from datamodules.video.frame_indices import uniform_indices

#: A field of these rows alone: what to look for, in place of the objects that question and answer name.
OBJECT = "object"
#: What makes two rows the same one.
_UNIQUE = ("video", "question", "chosen", "rejected")


@dataclass(frozen=True, slots=True)
class AnsweredRow:
    """Row of (video, question, chosen answer), and what it says besides.

    Attributes:
        key: annotation file and line.
        content: its fields, as they are in the file, without those that are null.
        path: the video's file.
        event: the span of its event, seconds; None = not given.
    """

    key: str
    content: Mapping[str, Any]
    path: Path
    event: tuple[float, float] | None = None


@dataclass(slots=True)
class AnsweredVideo:
    """Frames of one row's video.

    Attributes:
        row: the row.
        video: frames, rate and size of the whole video.
        frames: (T, 3, H, W) uint8, as shown, T frames spread evenly.
        indices: their T numbers in the video, ascending.
    """

    row: AnsweredRow
    video: VideoFacts
    frames: Tensor
    indices: Sequence[int]

    def time(self, position: int) -> float:
        """When the frame at a position of `frames` is shown, seconds."""
        return self.indices[position] / self.video.fps


@dataclass(slots=True)
class AnsweredBatch:
    """Rows with the frames of their videos; may be empty, so that every rank sees the same number of batches.

    Attributes:
        videos: the rows whose video could be read.
        skipped: key -> why, of the others.
    """

    videos: list[AnsweredVideo] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def to(self, *args: Any, **kwargs: Any) -> AnsweredBatch:
        """The batch as it is: who looks at frames moves those that he needs, as many at a time as fit."""
        return self


class AnsweredVideos(LightningDataModule):
    """Data module of a JSONL of (video, question, chosen answer): every row once over all ranks, a `SkippableData`.

    The format is that of ``vidpref prepare jsonl`` (docs/data.md); needed are `video`, `question` and `chosen`.
    A row may have any of the other fields, which then are not proposed, and `object`, what to look for.

    Args:
        rows: the JSONL.
        videos: the folder in which relative video paths begin; None = the folder of `rows`.
        num_frames: frames decoded of each video, spread evenly from the first to the last; fewer where it has fewer.
        batch_size: rows per rank and batch.
        num_workers: processes per rank that decode.
        on_bad_sample: a faulty row or an unreadable video stops the run, or is left out, counted and listed.
        limit: only the first rows, for a quick look; null = all.
        hand_out: by_need = each rank takes the next batch when it has room for one; equal_shares = all make the same
            number, as always under every strategy but DDP and with `trainer.limit_predict_batches`.
    """

    def __init__(
        self,
        rows: str,
        videos: str | None = None,
        num_frames: int = 32,
        batch_size: int = 1,
        num_workers: int = 0,
        on_bad_sample: Literal["raise", "skip"] = "raise",
        limit: int | None = None,
        hand_out: HandOutMode = "by_need",
    ) -> None:
        super().__init__()
        require_least(num_frames=(num_frames, 2), batch_size=(batch_size, 1), num_workers=(num_workers, 0))
        require_least(limit=(1 if limit is None else limit, 1))
        self.file = Path(rows)
        self.folder = self.file.parent if videos is None else Path(videos)
        self.num_frames = num_frames
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.on_bad_sample = on_bad_sample
        self.limit = limit
        self.hand_out = hand_out
        #: The rows without faults, in the file's order, after `setup`.
        self.rows: list[AnsweredRow] = []
        #: key -> why, of the rows left out so far.
        self.bad_samples: dict[str, str] = {}
        self._skipped: frozenset[str] = frozenset()

    def setup(self, stage: str) -> None:
        """Read and check the rows, before any weights are loaded; videos are opened when their turn comes.

        Raises:
            ValueError: no such file or folder, or faulty rows (all of them); or none is left.
        """
        if not self.folder.is_dir():
            raise ValueError(f"{self.folder}: no such folder; give data.videos, where the videos' paths begin")
        # Rows that repeat another one are noted here: those without a rejected answer are repeated, too.
        lines = read_rows(self.file, ())[: self.limit]
        checked, first = [], dict[str, SourceRow]()
        for line in lines:
            checked.append(self._checked(line))
            name = json.dumps([line.data.get(field) for field in _UNIQUE])
            if line.data and (former := first.setdefault(name, line)) is not line:
                line.refuse("chosen", f"repeats {former}: the same {', '.join(_UNIQUE)}")
        faults = [f"{line}, {fault}" for line in lines for fault in line.faults]
        if faults and self.on_bad_sample == "raise":
            raise ValueError(
                f"{self.file} has {len(faults)} faults; fix these rows, or set data.on_bad_sample: skip to leave them "
                f"out:{listed(faults)}"
            )
        self.bad_samples = {
            sample_key(self.file, line): "; ".join(map(str, line.faults)) for line in lines if line.faults
        }
        self.rows = [row for line, row in zip(lines, checked, strict=True) if not line.faults]
        self._skipped = frozenset()
        if not self.rows:
            raise ValueError(f"{self.file}: none of its {len(lines)} rows can be used:{listed(faults)}")

    def _checked(self, line: SourceRow) -> AnsweredRow:
        """The row, after noting what is wrong with it."""
        for name in sorted(set(line.data) - {*FIELDS, OBJECT}):
            line.refuse(name, f"is no field of this format; there are {', '.join((*FIELDS, OBJECT))}")
        path = Path(os.path.normpath(self.folder / line.text("video")))
        if line.data.get("video") and not path.is_file():
            line.refuse("video", f"there is no file {path}")
        for name in ("question", "chosen"):
            line.text(name)
        for name in ("rejected", "irrelevant", "source", OBJECT):
            line.optional_text(name)
        read_boxes(line)
        read_facts(line)
        content = {name: value for name, value in line.data.items() if value is not None}
        return AnsweredRow(sample_key(self.file, line), content, path, read_event(line))

    @property
    def keys(self) -> list[str]:
        """The keys of all rows without faults, in order, whatever is skipped."""
        return [row.key for row in self.rows]

    @property
    def fingerprint(self) -> str:
        """Of the rows and the sizes of their videos, and of how many frames are looked at."""
        content = [(row.key, row.content, row.path.stat().st_size) for row in self.rows]
        return hashlib.sha256(json.dumps([content, self.num_frames], sort_keys=True).encode()).hexdigest()

    def skip(self, keys: Collection[str]) -> None:
        """Leave these rows out, and no others: called before the loader is made, alike on every rank."""
        self._skipped = frozenset(keys)

    def predict_dataloader(self) -> Any:
        """This rank's batches; an empty list where nothing is left for any rank."""
        if self._skipped.issuperset(keys := self.keys):
            return []
        planned, hand_out = batches_of(keys, self._skipped, self.batch_size, self.trainer, self.hand_out)
        batches = [[self.rows[position] for position, mask in slots if mask] for slots in planned]
        decoder = AnsweredBatches(batches, self.num_frames, self.on_bad_sample == "skip")
        return AnsweredLoader(decoder, self, hand_out)


class AnsweredBatches(Dataset[AnsweredBatch]):
    """Item i is the i-th batch, decoded."""

    def __init__(self, batches: Sequence[Sequence[AnsweredRow]], num_frames: int, skip_bad: bool) -> None:
        self.batches = batches
        self.num_frames = num_frames
        self.skip_bad = skip_bad

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> AnsweredBatch:
        """The batch.

        Raises:
            ValueError: a video that cannot be read, where such are not skipped.
        """
        batch = AnsweredBatch()
        for row in self.batches[index]:
            try:
                batch.videos.append(decoded(row, self.num_frames))
            except ValueError as error:
                if not self.skip_bad:
                    raise ValueError(
                        f"row {row.key}, video {row.path}: {error}; fix the video, or set data.on_bad_sample: skip to "
                        "leave such rows out"
                    ) from error
                batch.skipped[row.key] = str(error)
        return batch


class AnsweredLoader:
    """A sized iterable over batches that notes in the data module what was skipped.

    Not a DataLoader itself, whose batches Lightning would split over ranks again.

    Args:
        batches: to be decoded.
        data: theirs.
        hand_out: which of the batches this rank makes; None = all of them.
    """

    def __init__(self, batches: AnsweredBatches, data: AnsweredVideos, hand_out: HandOut | None = None) -> None:
        self.batches = batches
        self.data = data
        self.hand_out = hand_out

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[AnsweredBatch]:
        workers = self.data.num_workers
        loader = DataLoader(
            self.batches,
            sampler=self.hand_out,
            batch_size=None,
            num_workers=workers,
            # Of a hand-out a rank takes no more than its workers are busy with.
            prefetch_factor=1 if workers and self.hand_out is not None else None,
            worker_init_fn=ignore_stop_signals,
        )
        for batch in loader if self.hand_out is None else self.hand_out.counted(loader):
            self.data.bad_samples.update(batch.skipped)
            yield batch


def decoded(row: AnsweredRow, num_frames: int) -> AnsweredVideo:
    """Frames of a row's video, spread evenly, each once.

    Raises:
        ValueError: the video cannot be read, or has no constant frame rate.
    """
    video = probe(row.path, constant_rate=True)
    frames = decode_each(row.path, uniform_indices(0, video.frames - 1, num_frames))
    return AnsweredVideo(row, video, torch.stack(list(frames.values())), list(frames))
