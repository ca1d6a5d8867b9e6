"""Yes-or-no questions about videos: pairs of a basic and a hallucinated one, every question once at any rank count."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.annotations import (
    HALVES,
    TEMPORAL_200,
    Annotation,
    find_annotations,
    find_video,
    question_key,
    read_annotation,
)
from datamodules.video_io import decode_frames, probe, uniform_indices

#: How the benchmark asks every question.
PROMPT = "{question}\nAnswer the question using 'yes' or 'no'."


@dataclass(frozen=True, slots=True)
class Question:
    """One half of a pair. `path` is None when no videos are read, or when its video is missing."""

    key: str
    prompt: str
    video: str
    path: Path | None


@dataclass(slots=True)
class QuestionBatch:
    """Questions to answer together; may be empty, so that every rank sees the same number of batches.

    Attributes:
        keys: the B questions' keys, see `question_key`.
        prompts: B prompts, without a video token or chat template.
        frames: B tensors (T, 3, H, W) uint8 at source resolution; empty when no videos are read.
        skipped: key -> why, for the questions whose video could not be decoded.
    """

    keys: list[str] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    frames: list[Tensor] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


class Questions(LightningDataModule):
    """Pairs of a basic and a hallucinated question, every question once at any number of ranks.

    Args:
        questions: a folder of annotation files, or the files themselves.
        videos: the folder of videos, flat or as published (`SUBSET/videos/`); null = read no videos, to score
            answers that were recorded before.
        num_frames: frames per video, spread evenly from the first to the last.
        batch_size: questions per batch and rank; even, so that a pair's shared video is decoded once.
        num_workers: processes that decode.
        subsets: published names, in the order of the results; null = all files of the folder.
        temporal: insist on a version of the temporal subset: 200 pairs as in the papers, or 176 without duplicates.
        prompt: how a question is asked; the default is the benchmark's own.
        allow_missing: leave out questions whose video is missing or undecodable, and say so in the results.
        limit_pairs: only the first pairs of each subset, for a quick look.
    """

    def __init__(
        self,
        questions: str | list[str],
        videos: str | None,
        num_frames: int = 8,
        batch_size: int = 8,
        num_workers: int = 0,
        subsets: list[str] | None = None,
        temporal: Literal[176, 200] | None = None,
        prompt: str = PROMPT,
        allow_missing: bool = False,
        limit_pairs: int | None = None,
    ) -> None:
        super().__init__()
        if "{question}" not in prompt:
            raise ValueError(f"the prompt {prompt!r} lacks {{question}}, the place where the question goes")
        if num_frames < 1 or batch_size < 1 or (limit_pairs is not None and limit_pairs < 1):
            raise ValueError("num_frames, batch_size and limit_pairs must be at least 1")
        self.questions = questions
        self.videos = None if videos is None else Path(videos)
        self.num_frames = num_frames
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.subsets = subsets
        self.temporal = temporal
        self.prompt = prompt
        self.allow_missing = allow_missing
        self.limit_pairs = limit_pairs
        #: The files in use, after `setup`.
        self.annotations: list[Annotation] = []
        #: key -> why, of the questions left out because their video is not there, after `setup`.
        self.missing: dict[str, str] = {}
        self._asked: list[Question] = []

    def setup(self, stage: str) -> None:
        """Read the annotations and find every video; runs before any weights are loaded.

        Raises:
            ValueError: faulty annotations, another version of `temporal` than asked for, missing videos (all of them).
        """
        self.annotations = [read_annotation(path) for path in self._files()]
        names = [one.subset for one in self.annotations]
        if len({*names, "all"}) <= len(names):
            raise ValueError(f"each subset needs a name of its own, and none is called all: rename a file of {names}")
        for one in self.annotations:
            if one.subset == "temporal" and self.temporal not in (None, len(one.pairs)):
                raise ValueError(
                    f"{one.path} has {len(one.pairs)} pairs, but temporal: {self.temporal} was asked for; "
                    f"put that version beside it (200 pairs: {TEMPORAL_200}.json) or change the option"
                )
            if self.limit_pairs is not None:
                del one.pairs[self.limit_pairs :]
        asked = [question for one in self.annotations for question in self._questions(one)]
        self.missing = {one.key: f"{one.video}: no such video" for one in asked if one.path is None and self.videos}
        if self.missing and not self.allow_missing:
            videos = sorted({one.video for one in asked if one.key in self.missing})
            raise ValueError(
                f"{len(videos)} videos are missing from {self.videos}; add them, or set allow_missing: true to score "
                "the other questions:\n  " + "\n  ".join(videos)
            )
        self._asked = [one for one in asked if one.key not in self.missing]
        if not self._asked:
            raise ValueError(f"none of the {len(self.missing)} questions has its video in {self.videos}")

    def _files(self) -> list[Path]:
        if isinstance(self.questions, str) and not self.questions.endswith(".json"):
            return find_annotations(Path(self.questions), self.subsets, self.temporal)
        files = [Path(path) for path in ([self.questions] if isinstance(self.questions, str) else self.questions)]
        missing = [str(path) for path in files if not path.is_file()]
        if missing:
            raise ValueError(f"these files of questions do not exist: {', '.join(missing)}")
        return files

    def _questions(self, annotation: Annotation) -> Iterator[Question]:
        for number, pair in enumerate(annotation.pairs):
            for half in HALVES:
                video = pair[half]["video"]
                path = None if self.videos is None else find_video(self.videos, annotation, video)
                # Not str.format: a question may hold braces, and so may the rest of the prompt.
                prompt = self.prompt.replace("{question}", pair[half]["question"])
                yield Question(question_key(annotation.subset, number, half), prompt, video, path)

    @property
    def asked(self) -> list[str]:
        """The keys of the questions that are asked, after `setup`."""
        return [one.key for one in self._asked]

    def test_dataloader(self) -> QuestionLoader:
        """This rank's batches; every rank has as many."""
        share = (self.trainer.distributed_sampler_kwargs if self.trainer else None) or {"num_replicas": 1, "rank": 0}
        world, rank = share["num_replicas"], share["rank"]
        batches = [self._asked[at : at + self.batch_size] for at in range(0, len(self._asked), self.batch_size)]
        batches += [[] for _ in range(-len(batches) % world)]
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
        batch, decoded = QuestionBatch(), dict[Path, Tensor]()
        for one in self.batches[index]:
            if one.path is not None:
                try:
                    if one.path not in decoded:
                        last = probe(one.path).frames - 1
                        decoded[one.path] = decode_frames(one.path, uniform_indices(0, last, self.num_frames))
                except ValueError as error:
                    if not self.allow_missing:
                        raise ValueError(f"question {one.key}, video {one.path}: {error}") from error
                    batch.skipped[one.key] = f"{one.video}: {error}"
                    continue
                batch.frames.append(decoded[one.path])
            batch.keys.append(one.key)
            batch.prompts.append(one.prompt)
        return batch


class QuestionLoader:
    """A sized iterable over batches; not a DataLoader itself, whose batches Lightning would split over ranks again."""

    def __init__(self, batches: QuestionBatches, num_workers: int) -> None:
        self.batches = batches
        self.num_workers = num_workers

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[QuestionBatch]:
        return iter(DataLoader(self.batches, batch_size=None, num_workers=self.num_workers))
