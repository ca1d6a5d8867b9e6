"""A folder of videos, streamed in chunks of frames: several videos at once, each once over all ranks."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from datamodules.questions.files import listed
from datamodules.questions.folder_names import Asked, NamedVideo, PromptSet, compare, named_videos, read_asked
from datamodules.stream.planned_data import require_least
from datamodules.stream.ranks import rank_of
from datamodules.stream.worker_signals import ignore_stop_signals
from datamodules.video.codec import probe, stream_frames
from datamodules.video.facts import VideoFacts


@dataclass(frozen=True, slots=True)
class FolderVideo:
    """A video that is scored.

    Attributes:
        key: its file's name.
        path: its file.
        prompt: what it was made from.
        index: which of the prompt's videos, from 0.
        facts: frames, rate and size.
        fingerprint: of the file's content.
        dimensions: what it is scored on; None = whatever is scored.
    """

    key: str
    path: Path
    prompt: str
    index: int
    facts: VideoFacts
    fingerprint: str
    dimensions: frozenset[str] | None = None


@dataclass(slots=True)
class FrameChunk:
    """Some consecutive frames of a video; chunks of several videos alternate, those of one come in order.

    Attributes:
        key: the video; "" = none, so that every rank has a batch.
        frames: (n, 3, H, W) uint8; None where nobody wants them.
        first: the number of the first of them.
        last: whether the video ends here.
        seen: the result of the watcher, with the last chunk.
        failed: why the video cannot be decoded, which ends it; "" = it can.
    """

    key: str = ""
    frames: Tensor | None = None
    first: int = 0
    last: bool = False
    seen: dict[str, Any] = field(default_factory=dict)
    failed: str = ""


class Watcher(Protocol):
    """Something that sees all frames of one video."""

    def see(self, frames: Tensor, first: int) -> None:
        """Take in the next frames, (n, 3, H, W) uint8, of which the first has number `first`."""

    def result(self) -> dict[str, Any]:
        """The result, in plain types, after the last frame."""


class Watching(Protocol):
    """What happens to frames in the processes that decode them; picklable."""

    def start(self, video: FolderVideo) -> Watcher:
        """The one that sees a video's frames in its process."""

    def sends(self, video: FolderVideo) -> bool:
        """Whether the frames themselves are sent too."""


class VideoFolder(LightningDataModule):
    """The videos of a folder, for `test`.

    Files are called ``{prompt}-{index}.mp4``, or a ``manifest.json`` has their prompts (see `folder_names`); a name
    without a number is its own prompt, which does where nothing that is scored looks at the prompt. Memory holds some
    chunks of each worker, however long the videos are.

    Args:
        folder: of the videos.
        prompts: the prompts that videos are expected of: a text with one a line, or VBench's `VBench_full_info.json`,
            which also says what each prompt's videos are scored on; null = those that the names tell.
        prompt_set: which published list `prompts` is (vbench 946, videojam_bench 128, motion_bench 419 entries); its
            count is checked.
        num_samples: videos of each prompt (VBench and DenseDPO: 5), numbered from 0; null = at least one.
        chunk_frames: frames that are decoded and shown to networks at once.
        num_workers: processes per rank that decode, each another video; 0 = none.
        least_frames: shorter videos cannot be scored (motion smoothness: 3).
        allow_missing: score what is there although videos are missing, left over or undecodable.
        limit: only the first videos by name, for a quick look.
    """

    def __init__(
        self,
        folder: str,
        prompts: str | None = None,
        prompt_set: PromptSet | None = None,
        num_samples: int | None = None,
        chunk_frames: int = 16,
        num_workers: int = 4,
        least_frames: int = 3,
        allow_missing: bool = False,
        limit: int | None = None,
    ) -> None:
        super().__init__()
        require_least(chunk_frames=(chunk_frames, 1), num_workers=(num_workers, 0), least_frames=(least_frames, 1))
        require_least(
            num_samples=(1 if num_samples is None else num_samples, 1), limit=(1 if limit is None else limit, 1)
        )
        if prompts is None and (prompt_set is not None or num_samples is not None):
            raise ValueError("prompt_set and num_samples need the list of prompts: give data.prompts")
        self.folder = Path(folder)
        self.prompts = None if prompts is None else Path(prompts)
        self.prompt_set: PromptSet | None = prompt_set
        self.num_samples = num_samples
        self.chunk_frames = chunk_frames
        self.num_workers = num_workers
        self.least_frames = least_frames
        self.allow_missing = allow_missing
        self.limit = limit
        #: The videos to score by name, in order, after `setup`.
        self.videos: dict[str, FolderVideo] = {}
        #: The prompts that videos are expected of, by their text; None where there is no list.
        self.asked: dict[str, Asked] | None = None
        #: Name -> why, of the videos that are left out, and "video 0 of 'PROMPT'" of those missing; after `setup`.
        self.left_out: dict[str, str] = {}
        self._watching: Watching | None = None
        self._skipped: frozenset[str] = frozenset()

    def setup(self, stage: str) -> None:
        """Find and probe every video, and compare with the prompts; before any network is loaded.

        Raises:
            ValueError: lists every missing, left-over, unnamed, undecodable and too short video.
        """
        # A stranger's name is still a fault where there is a list of prompts: `compare` looks for it there.
        named, faults = named_videos(self.folder, names_are_prompts=True)
        self.asked = None if self.prompts is None else read_asked(self.prompts, self.prompt_set)
        if self.asked is not None:
            missing, extra = compare(named, self.asked, self.num_samples)
            faults |= missing | extra
        # The limit counts good names: faulty ones must not use up a quick look.
        named = [video for video in named if video.path.name not in faults][: self.limit]
        # Threads, as most of it is reading: packets and the content's hash.
        with ThreadPoolExecutor(max(1, self.num_workers)) as pool:
            probed = list(pool.map(self._probed, named))
        faults |= {video.path.name: why for video, why in zip(named, probed, strict=True) if isinstance(why, str)}
        if faults and not self.allow_missing:
            lines = listed([f"{name}: {why}" for name, why in sorted(faults.items())])
            raise ValueError(
                f"{len(faults)} videos of {self.folder} cannot be scored as asked; fix them, or set allow_missing: "
                f"true to score the others:{lines}"
            )
        self.videos = {video.key: video for video in probed if isinstance(video, FolderVideo)}
        self.left_out = dict(sorted(faults.items()))
        self._skipped = frozenset()
        if not self.videos:
            raise ValueError(f"no video of {self.folder} is left to score")

    def _probed(self, video: NamedVideo) -> FolderVideo | str:
        """The video, or why it cannot be scored."""
        try:
            facts = probe(video.path)
        except ValueError as error:
            return str(error)
        if facts.frames < self.least_frames:
            return f"has {facts.frames} frames, at least {self.least_frames} are needed"
        with video.path.open("rb") as file:
            fingerprint = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        asked = Asked() if self.asked is None else self.asked[video.prompt]
        key = video.path.name
        return FolderVideo(key, video.path, video.prompt, video.index, facts, fingerprint, asked.dimensions)

    def skip(self, keys: Collection[str]) -> None:
        """Do not stream these, because they are scored; on every rank alike, after `setup`."""
        self._skipped = frozenset(keys)

    def watch(self, watching: Watching) -> None:
        """What happens to frames where they are decoded; before the loader is made."""
        self._watching = watching

    @property
    def wanted(self) -> list[FolderVideo]:
        """The videos that are still to be streamed, over all ranks."""
        return [video for key, video in self.videos.items() if key not in self._skipped]

    def test_dataloader(self) -> ChunkLoader:
        """This rank's chunks; at least one, be it empty."""
        rank, world = rank_of(self.trainer)
        videos = self.wanted[rank::world]
        return ChunkLoader(Chunks(videos, self.chunk_frames, self._watching), self.num_workers)


class Chunks(IterableDataset[FrameChunk]):
    """The chunks of videos, one video after the other; a worker of several takes every n-th video."""

    def __init__(self, videos: Sequence[FolderVideo], chunk_frames: int, watching: Watching | None) -> None:
        self.videos = videos
        self.chunk_frames = chunk_frames
        self.watching = watching

    def __iter__(self) -> Iterator[FrameChunk]:
        worker = get_worker_info()
        for video in self.videos if worker is None else self.videos[worker.id :: worker.num_workers]:
            yield from self._chunks(video)
        # A rank without a video gives an empty chunk; without any it would leave the others waiting.
        if not self.videos and (worker is None or worker.id == 0):
            yield FrameChunk()

    def count(self) -> int:
        """How many chunks there are, of all workers; fewer when a video turns out to be damaged."""
        return sum(-(-video.facts.frames // self.chunk_frames) for video in self.videos) or 1

    def _chunks(self, video: FolderVideo) -> Iterator[FrameChunk]:
        watcher = None if self.watching is None else self.watching.start(video)
        sends = self.watching is None or self.watching.sends(video)
        end, waiting = video.facts.frames, list[Tensor]()
        try:
            for number, frame in stream_frames(video.path, range(end)):
                waiting.append(frame)
                if len(waiting) == self.chunk_frames or number == end - 1:
                    frames, first = torch.stack(waiting), number + 1 - len(waiting)
                    waiting.clear()
                    if watcher is not None:
                        watcher.see(frames, first)
                    chunk = FrameChunk(video.key, frames if sends else None, first, number == end - 1)
                    chunk.seen = watcher.result() if chunk.last and watcher is not None else {}
                    yield chunk
        # It ends this video alone; the others of the folder are still scored.
        except ValueError as error:
            yield FrameChunk(video.key, last=True, failed=str(error))


class ChunkLoader:
    """A sized iterable over chunks; not a DataLoader itself, whose batches Lightning would split over ranks again."""

    def __init__(self, chunks: Chunks, num_workers: int) -> None:
        self.chunks = chunks
        # A worker without a video would only cost its start.
        self.num_workers = min(num_workers, len(chunks.videos))

    def __len__(self) -> int:
        return self.chunks.count()

    def __iter__(self) -> Iterator[FrameChunk]:
        loader = DataLoader(self.chunks, batch_size=None, num_workers=self.num_workers, worker_init_fn=_prepared)
        return iter(loader)


def _prepared(worker: int) -> None:
    """Workers are the parallelism; OpenCV's own threads do not survive a fork."""
    import cv2

    cv2.setNumThreads(0)
    ignore_stop_signals(worker)


def by_prompt(videos: Mapping[str, FolderVideo]) -> dict[str, list[FolderVideo]]:
    """Prompt -> its videos in the order of their numbers."""
    by_prompt: dict[str, list[FolderVideo]] = {}
    for video in videos.values():
        by_prompt.setdefault(video.prompt, []).append(video)
    return {prompt: sorted(same, key=lambda video: video.index) for prompt, same in by_prompt.items()}
