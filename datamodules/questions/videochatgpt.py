"""Video-ChatGPT's bench: questions whose answers a judge scores in five dimensions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from datamodules.questions.base import Question, VideoQuestions, check_prompt, with_question
from datamodules.questions.files import QuestionFile, VideoNames, check_count, lacking, read_list, refuse

Part = Literal["generic", "temporal", "consistency"]
#: One file a part, `PART_qa.json`. Answers to "generic" are judged in three dimensions; "consistency" asks twice.
PARTS: tuple[Part, ...] = ("generic", "temporal", "consistency")


@dataclass(frozen=True)
class TwiceAsked(Question):
    """Question in two wordings, both asked about the same video.

    Attributes:
        second: the second prompt; `prompt` is the first.
    """

    second: str = ""

    @property
    def fingerprint(self) -> str:
        """Of both prompts."""
        # A zero byte, which no prompt has, between them: no two pairs of prompts read the same.
        return hashlib.sha256(f"{super().fingerprint}\0{self.second}".encode()).hexdigest()[:16]


class VideoChatGptQuestions(VideoQuestions):
    """Questions of three files of {"Q", "A", "video_name"}, and in the last {"Q1", "Q2", "A", "video_name"}.

    Args:
        questions: the folder of `generic_qa.json`, `temporal_qa.json` and `consistency_qa.json`.
        videos: the folder of videos, flat; null = read no videos, to score answers that were recorded before.
        parts: which files; null = all three.
        num_questions: insist on this many in each part; null = take what there is.
        num_frames: frames per video, spread evenly from the first to the last.
        batch_size: questions per batch and rank.
        num_workers: processes that decode.
        prompt: how a question is asked; the default is the bare question.
        allow_missing: leave out questions whose video is missing or undecodable, and say so in the results.
        limit_questions: only the first questions of each part, for a quick look.
    """

    def __init__(
        self,
        questions: str,
        videos: str | None,
        parts: list[Part] | None = None,
        num_questions: dict[Part, int] | None = None,
        num_frames: int = 8,
        batch_size: int = 8,
        num_workers: int = 0,
        prompt: str = "{question}",
        allow_missing: bool = False,
        limit_questions: int | None = None,
    ) -> None:
        super().__init__(videos, num_frames, batch_size, num_workers, allow_missing, limit_questions)
        check_prompt(prompt)
        self.questions = Path(questions)
        self.parts: tuple[Part, ...] = PARTS if parts is None else tuple(parts)
        if not self.parts:
            raise ValueError(f"data.parts is empty; ask for some of {', '.join(PARTS)}")
        self.num_questions: Mapping[Part, int] = num_questions or {}
        self.prompt = prompt
        #: Part -> its file, after `setup`.
        self.files: Mapping[Part, QuestionFile] = {}
        self._names: VideoNames | None = None

    def read(self) -> list[Question]:
        """Every question of every part.

        Raises:
            ValueError: a file is missing or faulty (every fault is listed), or holds another number of questions.
        """
        self.files = {part: read_part(self.questions / f"{part}_qa.json", part) for part in self.parts}
        for part, file in self.files.items():
            check_count(file.path, len(file.rows), self.num_questions.get(part))
        self._names = None  # the folder may hold other videos by now
        questions = []
        for part, file in self.files.items():
            for unit, row in enumerate(file.rows):
                first, *more = (with_question(self.prompt, row[name]) for name in wordings(part))
                fields = (f"{part}/{unit:06d}", part, unit, first, row["video_name"], row["A"])
                questions.append(TwiceAsked(*fields, second=more[0]) if more else Question(*fields))
        return questions

    def record(self, question: Question) -> Mapping[str, Any]:
        """The published record of a question."""
        part: Any = question.part
        row: Mapping[str, Any] = self.files[part].rows[question.unit]
        return row

    def find(self, question: Question, folder: Path) -> Path | None:
        """By the video's name."""
        if self._names is None:
            self._names = VideoNames(folder)
        return self._names.find(question.video)

    def sources(self) -> dict[str, dict[str, Any]]:
        """Every part's file, its hash and its number of questions."""
        return {part: {**file.source(), "questions": len(file.rows)} for part, file in self.files.items()}

    def settings(self) -> dict[str, Any]:
        """With the prompt."""
        return {**super().settings(), "prompt": self.prompt}


def wordings(part: str) -> tuple[str, ...]:
    """The fields of a part's records that hold questions."""
    return ("Q1", "Q2") if part == "consistency" else ("Q",)


def read_part(path: Path, part: Part) -> QuestionFile:
    """One published file, checked.

    Raises:
        ValueError: it is missing, or lists every fault with its row.
    """
    file = read_list(path)
    names = (*wordings(part), "A", "video_name")
    refuse(path, [f"row {index}: {fault}" for index, row in enumerate(file.rows) for fault in lacking(row, names)])
    return file
