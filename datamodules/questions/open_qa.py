"""Open-ended questions about videos: MSVD-QA, MSRVTT-QA, TGIF-QA FrameQA and ActivityNet-QA."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from datamodules.questions.base import Question, VideoQuestions, check_prompt, with_question
from datamodules.questions.files import VideoNames, check_count
from datamodules.questions.open_qa_files import OpenFile, OpenRecord, read_open_file

Dataset = Literal["msvd_qa", "msrvtt_qa", "tgif_qa", "activitynet_qa"]
#: Prefix of a video's name or number in its file's name.
PREFIXES: Mapping[Dataset, str] = {"msvd_qa": "vid", "msrvtt_qa": "video", "tgif_qa": "", "activitynet_qa": "v_"}
#: The types of a test set's questions, by their number; other test sets have none.
TYPES: Mapping[Dataset, tuple[str, ...]] = {
    "activitynet_qa": (
        "Motion", "Spatial Relation", "Temporal Relation", "Yes/No", "Color", "Object", "Location", "Number", "Other",
    ),
    "tgif_qa": ("Object", "Number", "Color", "Location"),
}  # fmt: skip


class OpenQuestions(VideoQuestions):
    """Questions of a test set, in its published format (see `datamodules.questions.open_qa_files`).

    Args:
        dataset: which one.
        questions: the file of questions.
        videos: the folder of videos, flat; null = read no videos, to score answers that were recorded before.
        answers: the file of answers where the format has two (`test_a.json`).
        mapping: MSVD's `youtube_mapping.txt`, for videos that are called by their clip's name.
        num_questions: insist on this many, as the published test set has; null = take what there is.
        num_frames: frames per video, spread evenly from the first to the last.
        batch_size: questions per batch and rank.
        num_workers: processes that decode.
        prompt: how a question is asked; the default, the bare question, is Video-LLaVA's and VistaDPO's.
        capitalize: write the question with one capital letter in front and all others small, as lmms-eval does.
        allow_missing: leave out questions whose video is missing or undecodable, and say so in the results.
        limit_questions: only the first questions, for a quick look.
    """

    def __init__(
        self,
        dataset: Dataset,
        questions: str,
        videos: str | None,
        answers: str | None = None,
        mapping: str | None = None,
        num_questions: int | None = None,
        num_frames: int = 8,
        batch_size: int = 8,
        num_workers: int = 0,
        prompt: str = "{question}",
        capitalize: bool = False,
        allow_missing: bool = False,
        limit_questions: int | None = None,
    ) -> None:
        super().__init__(videos, num_frames, batch_size, num_workers, allow_missing, limit_questions)
        check_prompt(prompt)
        self.dataset: Dataset = dataset
        self.questions = Path(questions)
        self.answers = None if answers is None else Path(answers)
        self.mapping = None if mapping is None else Path(mapping)
        self.num_questions = num_questions
        self.prompt = prompt
        self.capitalize = capitalize
        #: The file, after `setup`.
        self.file = OpenFile(self.questions, "", ())
        #: Question's key -> published record, after `setup`.
        self.records: Mapping[str, OpenRecord] = {}
        self._names: VideoNames | None = None

    def read(self) -> list[Question]:
        """Every question.

        Raises:
            ValueError: faulty files (every fault is listed), or another number of questions than asked for.
        """
        num_types = len(TYPES.get(self.dataset, ()))
        self.file = read_open_file(self.questions, self.answers, self.mapping, PREFIXES[self.dataset], num_types)
        check_count(self.questions, len(self.file.records), self.num_questions)
        self.records = {f"{self.dataset}/{record.question_id}": record for record in self.file.records}
        self._names = None  # the folder may hold other videos by now
        return [
            Question(key, self.dataset, unit, self.asked_as(record.question), record.video, record.answer)
            for unit, (key, record) in enumerate(self.records.items())
        ]

    def asked_as(self, question: str) -> str:
        """The prompt for a question."""
        return with_question(self.prompt, question.capitalize() if self.capitalize else question)

    def find(self, question: Question, folder: Path) -> Path | None:
        """By the video's name, also with the data set's prefix before it."""
        if self._names is None:
            self._names = VideoNames(folder)
        return self._names.find(question.video, PREFIXES[self.dataset] + question.video)

    def sources(self) -> dict[str, dict[str, Any]]:
        """The file, its hash and its number of questions."""
        file = self.file
        return {self.dataset: {"file": file.path.name, "sha256": file.sha256, "questions": len(file.records)}}

    def settings(self) -> dict[str, Any]:
        """With the prompt."""
        return {**super().settings(), "prompt": self.prompt, "capitalize": self.capitalize}
