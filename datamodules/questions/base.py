"""Questions about videos: read, checked, decoded and shared out, every question once at any number of ranks."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.questions.files import listed
from datamodules.stream.ranks import rank_of
from datamodules.stream.worker_signals import ignore_stop_signals
from datamodules.video.codec import decode_frames, probe
from datamodules.video.containers import file_head
from datamodules.video.frame_indices import span_indices, uniform_indices


@dataclass(frozen=True, slots=True)
class Question:
    """One question about one video.

    Attributes:
        key: names it within a benchmark, "PART/...".
        part: the subset, split or task that it belongs to.
        unit: which pair or video of its part it belongs to, from 0; units are what `limit` counts.
        prompt: how it is asked, without a video token or chat template.
        video: the video's name in the annotation.
        answer: the right answer, "" where a judge decides.
        path: the video's file; None when no videos are read, or when it is missing.
        span: the seconds from and to which the video is shown; None = all of it.
    """

    key: str
    part: str
    unit: int
    prompt: str
    video: str
    answer: str
    path: Path | None = None
    span: tuple[float, float] | None = None

    @property
    def fingerprint(self) -> str:
        """Of what is asked: an answer to another question under the same key is recognised by it."""
        asked = [self.video, self.prompt, *([] if self.span is None else map(str, self.span))]
        return hashlib.sha256("\0".join(asked).encode()).hexdigest()[:16]


@dataclass(slots=True)
class QuestionBatch:
    """Questions to answer together; may be empty, so that every rank sees the same number of batches.

    Attributes:
        keys: the B questions' keys.
        prompts: B prompts, without a video token or chat template.
        frames: B tensors (T, 3, H, W) uint8 at source resolution; empty when no videos are read.
        times: B tensors (T,) float32, seconds from the start of what is shown; empty when no videos are read.
        skipped: key -> why, for the questions whose video could not be decoded.
    """

    keys: list[str] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    frames: list[Tensor] = field(default_factory=list)
    times: list[Tensor] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


class VideoQuestions(LightningDataModule):
    """A benchmark's questions; a subclass reads its published format.

    Args:
        videos: the folder of videos; None = read no videos, to score answers that were recorded before.
        num_frames: frames per video, spread evenly from the first to the last.
        batch_size: questions per batch and rank.
        num_workers: processes that decode.
        allow_missing: leave out questions whose video is missing or undecodable, and say so in the results.
        limit: only the first units (pairs, videos) of each part, for a quick look.
    """

    def __init__(
        self,
        videos: str | None,
        num_frames: int,
        batch_size: int,
        num_workers: int,
        allow_missing: bool,
        limit: int | None,
    ) -> None:
        super().__init__()
        if num_frames < 1 or batch_size < 1 or (limit is not None and limit < 1):
            raise ValueError("num_frames, batch_size and the limit must be at least 1")
        self.videos = None if videos is None else Path(videos)
        self.num_frames = num_frames
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.allow_missing = allow_missing
        self.limit = limit
        #: Every question of the files in use by its key, in order, also those beyond the limit; after `setup`.
        self.everything: dict[str, Question] = {}
        #: key -> why, of the questions left out because their video is not there, after `setup`.
        self.missing: dict[str, str] = {}
        self._asked: list[Question] = []
        self._skipped: frozenset[str] = frozenset()

    #: What a policy's answers begin with, so that it has only to go on; "" = nothing.
    answer_start: str = ""

    # What a subclass fills in

    @abstractmethod
    def read(self) -> list[Question]:
        """Every question of the annotation files, checked, in the order of the results; `path` is still None.

        Raises:
            ValueError: faulty annotation files, or another version than asked for.
        """

    @abstractmethod
    def find(self, question: Question, folder: Path) -> Path | None:
        """Where a question's video is in the folder of videos; None = nowhere."""

    @abstractmethod
    def sources(self) -> dict[str, dict[str, Any]]:
        """Part -> {"file", "sha256", and how many pairs or questions it holds}, for the results; after `setup`."""

    def settings(self) -> dict[str, Any]:
        """What answers depend on besides the question: plain types."""
        return {"num_frames": self.num_frames}

    # What the benchmarks use

    def setup(self, stage: str) -> None:
        """Read the annotations and find every video; runs before any weights are loaded.

        Raises:
            ValueError: faulty annotations, missing videos and files that are none at first sight (all of them).
        """
        self.everything = {question.key: question for question in self.read()}
        asked = [question for question in self.everything.values() if self.limit is None or question.unit < self.limit]
        if (folder := self.videos) is not None:
            asked = [replace(question, path=self.find(question, folder)) for question in asked]
            faults = {path: _fault(path) for path in {question.path for question in asked}}
            self.missing = {
                question.key: f"{question.video}: {why}" for question in asked if (why := faults[question.path])
            }
        else:
            self.missing = {}
        if self.missing and not self.allow_missing:
            videos = sorted(set(self.missing.values()))
            raise ValueError(
                f"{len(videos)} videos are missing from {folder}; add them, or set allow_missing: true to score "
                "the other questions:" + listed(videos)
            )
        self._asked = [question for question in asked if question.key not in self.missing]
        self._skipped = frozenset()
        if not self._asked:
            raise ValueError(f"none of the {len(self.missing)} questions has its video in {self.videos}")

    @property
    def asked(self) -> list[str]:
        """The keys of the questions that have to be answered, by now or earlier; after `setup`."""
        return [question.key for question in self._asked]

    @property
    def asked_now(self) -> list[str]:
        """The keys of the questions that are still to be asked."""
        return [key for key in self.asked if key not in self._skipped]

    def skip(self, keys: Collection[str]) -> None:
        """Ask these no more, because they are answered; called on every rank, after `setup`."""
        self._skipped = frozenset(keys)

    def test_dataloader(self) -> QuestionLoader:
        """This rank's batches; every rank has as many, and at least one."""
        rank, world = rank_of(self.trainer)
        left = [question for question in self._asked if question.key not in self._skipped]
        batches = [left[start : start + self.batch_size] for start in range(0, len(left), self.batch_size)]
        # Without any batch Lightning would not call the test's hooks, and nothing would be scored.
        batches += [[] for _ in range(-len(batches) % world or (0 if batches else world))]
        dataset = QuestionBatches(batches[rank::world], self.num_frames, self.allow_missing)
        return QuestionLoader(dataset, self.num_workers)


class QuestionBatches(Dataset[QuestionBatch]):
    """Item i is the i-th batch, decoded."""

    def __init__(self, batches: Sequence[Sequence[Question]], num_frames: int, allow_missing: bool) -> None:
        self.batches = batches
        self.num_frames = num_frames
        self.allow_missing = allow_missing

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> QuestionBatch:
        # By video and span: questions of a batch about one video share its frames.
        batch, decoded = QuestionBatch(), dict[tuple[Path, Any], tuple[Tensor, Tensor]]()
        for question in self.batches[index]:
            if question.path is not None:
                try:
                    if (question.path, question.span) not in decoded:
                        decoded[question.path, question.span] = self._decoded(question.path, question.span)
                except ValueError as error:
                    if not self.allow_missing:
                        raise ValueError(f"question {question.key}, video {question.path}: {error}") from error
                    batch.skipped[question.key] = f"{question.video}: {error}"
                    continue
                frames, times = decoded[question.path, question.span]
                batch.frames.append(frames)
                batch.times.append(times)
            batch.keys.append(question.key)
            batch.prompts.append(question.prompt)
        return batch

    def _decoded(self, path: Path, span: tuple[float, float] | None) -> tuple[Tensor, Tensor]:
        """Frames and their times in seconds from the first."""
        facts = probe(path)
        if span is None:
            indices = uniform_indices(0, facts.frames - 1, self.num_frames)
        else:
            indices = span_indices(span, facts, self.num_frames)
        return decode_frames(path, indices), seconds_from_first(indices, facts.fps)


class QuestionLoader:
    """A sized iterable over batches; not a DataLoader itself, whose batches Lightning would split over ranks again."""

    def __init__(self, batches: QuestionBatches, num_workers: int) -> None:
        self.batches = batches
        self.num_workers = num_workers

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[QuestionBatch]:
        return iter(
            DataLoader(self.batches, batch_size=None, num_workers=self.num_workers, worker_init_fn=ignore_stop_signals)
        )


def seconds_from_first(indices: Sequence[int], fps: float) -> Tensor:
    """(T,) float32, when the frames of these numbers are shown, from the first of them."""
    return torch.tensor([(index - indices[0]) / fps for index in indices], dtype=torch.float32)


def _fault(path: Path | None) -> str:
    """Why there is no video at first sight: what a failed download leaves is empty, or text. "" where it may be one."""
    if path is None:
        return "no such video"
    if path.is_dir():
        return ""
    try:
        head = file_head(path)[:64]
    except ValueError as error:
        return str(error)
    if not head:
        return "the file is empty"
    # A video's first bytes hold zeros or other control characters, an error page's do not.
    return "the file is a text" if head.isascii() and head.decode().replace("\n", " ").isprintable() else ""


def annotation_files(questions: str | list[str], find: Callable[[Path], list[Path]]) -> list[Path]:
    """The annotation files that `questions` names: those that `find` finds in a folder, or the files themselves.

    Raises:
        ValueError: one of the files does not exist.
    """
    if isinstance(questions, str) and not questions.endswith(".json"):
        return find(Path(questions))
    files = [Path(path) for path in ([questions] if isinstance(questions, str) else questions)]
    missing = [str(path) for path in files if not path.is_file()]
    if missing:
        raise ValueError(f"these files of questions do not exist: {', '.join(missing)}")
    return files


def check_prompt(prompt: str) -> None:
    """Raise a ValueError when a prompt has no place for the question."""
    if "{question}" not in prompt:
        raise ValueError(f"the prompt {prompt!r} lacks {{question}}, the place where the question goes")


def with_question(prompt: str, question: str) -> str:
    """The prompt with its question. Not str.format: a question may hold braces, and so may the rest of the prompt."""
    return prompt.replace("{question}", question)
