"""VideoHallucer's questions: pairs of a basic and a hallucinated yes-or-no question about videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from datamodules.questions.base import Question, VideoQuestions, annotation_files, check_prompt, with_question
from datamodules.questions.video_hallucer_files import (
    HALVES,
    TEMPORAL_200,
    Annotation,
    find_annotations,
    find_video,
    question_key,
    read_annotation,
)

#: How the benchmark asks every question.
PROMPT = "{question}\nAnswer the question using 'yes' or 'no'."


class VideoHallucerQuestions(VideoQuestions):
    """Questions of VideoHallucer, in pairs of a basic and a hallucinated one.

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
        super().__init__(videos, num_frames, batch_size, num_workers, allow_missing, limit_pairs)
        check_prompt(prompt)
        self.questions = questions
        self.subsets = subsets
        self.temporal = temporal
        self.prompt = prompt
        #: The files in use, after `setup`.
        self.annotations: list[Annotation] = []

    def read(self) -> list[Question]:
        """Every half of every pair.

        Raises:
            ValueError: faulty annotations, another version of `temporal` than asked for.
        """
        paths = annotation_files(self.questions, lambda folder: find_annotations(folder, self.subsets, self.temporal))
        annotations = [read_annotation(path) for path in paths]
        names = [file.subset for file in annotations]
        # "all" is the results' row for the mean of the subsets.
        if len({*names, "all"}) <= len(names):
            raise ValueError(f"each subset needs a name of its own, and none is called all: rename a file of {names}")
        for file in annotations:
            if file.subset == "temporal" and self.temporal not in (None, len(file.pairs)):
                raise ValueError(
                    f"{file.path} has {len(file.pairs)} pairs, but temporal: {self.temporal} was asked for; "
                    f"put that version beside it (200 pairs: {TEMPORAL_200}.json) or change the option"
                )
        self.annotations = annotations
        return [
            Question(
                question_key(file.subset, unit, half),
                file.subset,
                unit,
                with_question(self.prompt, pair[half]["question"]),
                pair[half]["video"],
                pair[half]["answer"],
            )
            for file in annotations
            for unit, pair in enumerate(file.pairs)
            for half in HALVES
        ]

    @property
    def by_subset(self) -> dict[str, Annotation]:
        """Subset -> its file, after `setup`."""
        return {file.subset: file for file in self.annotations}

    def find(self, question: Question, folder: Path) -> Path | None:
        """In the folder itself, or where the published layout keeps it."""
        return find_video(folder, self.by_subset[question.part], question.video)

    def sources(self) -> dict[str, dict[str, Any]]:
        """Every subset's file, its hash and its number of pairs."""
        return {
            file.subset: {"file": file.path.name, "sha256": file.sha256, "pairs": len(file.pairs)}
            for file in self.annotations
        }

    def settings(self) -> dict[str, Any]:
        """With the prompt."""
        return {**super().settings(), "prompt": self.prompt}
