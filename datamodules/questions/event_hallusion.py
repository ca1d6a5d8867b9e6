"""EventHallusion's questions: about events in videos, by yes or no, and descriptions of whole videos."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from datamodules.questions.base import Question, VideoQuestions, annotation_files, check_prompt, with_question
from datamodules.questions.files import VIDEO_ENDINGS, read_list, refuse

#: The published splits in their order; "interleave" is called "Mix" in tables.
SPLITS = ("entire", "interleave", "misleading")
#: The published files are called `SPLIT_questions.json`.
FILE_ENDING = "_questions"
#: How yes-or-no questions are asked, and how a description is.
PROMPT = "{question}\nPlease answer yes or no:"
DESCRIPTION_PROMPT = "Please describe this video in detail."
#: The last part of a description's key.
DESCRIPTION = "description"

Part = Literal["binary", "description"]


@dataclass(frozen=True, slots=True)
class EventSplit:
    """Annotation file of a split.

    Attributes:
        path: where it was read.
        sha256: of the file's bytes.
        records: video id -> published record, in the file's order.
    """

    path: Path
    sha256: str
    records: Mapping[str, dict[str, Any]]


class EventQuestions(VideoQuestions):
    """EventHallusion's yes-or-no questions, and a description of every video.

    Args:
        questions: the folder of `SPLIT_questions.json` files, or the files themselves.
        videos: the folder of videos called by their id, flat or one folder a split; null = read no videos, to score
            answers that were recorded before.
        parts: what is asked: "binary", "description", or both.
        num_frames: frames per video, spread evenly from the first to the last.
        batch_size: questions per batch and rank.
        num_workers: processes that decode.
        splits: which splits, in the order of the results; null = all files of the folder.
        described_splits: whose videos are described, where descriptions are asked for; null = all. VistaDPO's table
            leaves "misleading" out.
        prompt: how a yes-or-no question is asked; the default is the benchmark's own.
        description_prompt: how a description is asked for; the default is the benchmark's own.
        allow_missing: leave out questions whose video is missing or undecodable, and say so in the results.
        limit_videos: only the first videos of each split, for a quick look.
    """

    def __init__(
        self,
        questions: str | list[str],
        videos: str | None,
        parts: list[Part] | None = None,
        num_frames: int = 8,
        batch_size: int = 8,
        num_workers: int = 0,
        splits: list[str] | None = None,
        prompt: str = PROMPT,
        description_prompt: str = DESCRIPTION_PROMPT,
        allow_missing: bool = False,
        limit_videos: int | None = None,
        described_splits: list[str] | None = None,
    ) -> None:
        super().__init__(videos, num_frames, batch_size, num_workers, allow_missing, limit_videos)
        check_prompt(prompt)
        self.questions = questions
        self.parts: tuple[Part, ...] = ("binary",) if parts is None else tuple(parts)
        if not self.parts:
            raise ValueError("data.parts is empty; ask for binary, description, or both")
        self.splits = splits
        self.described_splits = described_splits
        self.prompt = prompt
        self.description_prompt = description_prompt
        #: Split -> its file, after `setup`.
        self.annotations: Mapping[str, EventSplit] = {}

    def read(self) -> list[Question]:
        """Every question of every video, then its description.

        Raises:
            ValueError: faulty annotations; every fault is listed.
        """
        paths = annotation_files(self.questions, self._find_files)
        self.annotations = {path.stem.removesuffix(FILE_ENDING): read_split(path) for path in paths}
        # By split, so of two files of one split only the last is left.
        if len(self.annotations) < len(paths):
            raise ValueError(f"two files of the same split: {', '.join(map(str, paths))}; name each split once")
        unknown = [name for name in self.described_splits or () if name not in self.annotations]
        if unknown:
            raise ValueError(
                f"data.described_splits names {', '.join(unknown)}, not among {', '.join(self.annotations)}"
            )
        questions = []
        for name, split in self.annotations.items():
            # A unit is a video, not a question: its questions are drawn together when intervals are estimated.
            for unit, (video, record) in enumerate(split.records.items()):
                if "binary" in self.parts:
                    for index, row in enumerate(record["questions"]):
                        prompt = with_question(self.prompt, row["question"])
                        questions.append(Question(f"{name}/{video}/{index}", name, unit, prompt, video, row["answer"]))
                if name in self.described:
                    key = f"{name}/{video}/{DESCRIPTION}"
                    questions.append(Question(key, name, unit, self.description_prompt, video, ""))
        return questions

    @property
    def described(self) -> list[str]:
        """The splits whose videos are described; after `setup`."""
        chosen = self.annotations if self.described_splits is None else self.described_splits
        return list(chosen) if "description" in self.parts else []

    def _find_files(self, folder: Path) -> list[Path]:
        files = {path.stem.removesuffix(FILE_ENDING): path for path in sorted(folder.glob(f"*{FILE_ENDING}.json"))}
        splits = [name for name in SPLITS if name in files] if self.splits is None else self.splits
        lacking = [name for name in splits if name not in files]
        if lacking or not splits:
            have = ", ".join(files) or "none"
            raise ValueError(f"no questions for {lacking or 'any split'} in {folder}, which has: {have}")
        return [files[name] for name in splits]

    def find(self, question: Question, folder: Path) -> Path | None:
        """By the video's id, in the folder itself or in one of its split."""
        places = (folder, folder / question.part, folder / "videos" / question.part)
        files = (place / f"{question.video}{ending}" for place in places for ending in VIDEO_ENDINGS)
        return next((file for file in files if file.is_file()), None)

    def record(self, question: Question) -> dict[str, Any]:
        """The published record of a question's video."""
        return self.annotations[question.part].records[question.video]

    def sources(self) -> dict[str, dict[str, Any]]:
        """Every split's file, its hash and what it holds."""
        return {
            name: {
                "file": split.path.name,
                "sha256": split.sha256,
                "videos": len(split.records),
                "questions": sum(len(record["questions"]) for record in split.records.values()),
            }
            for name, split in self.annotations.items()
        }

    def settings(self) -> dict[str, Any]:
        """With the prompts."""
        return {**super().settings(), "prompt": self.prompt, "description_prompt": self.description_prompt}


def read_split(path: Path) -> EventSplit:
    """One published annotation file, checked.

    Raises:
        ValueError: not a JSON list of videos with questions; every fault is listed with its row.
    """
    file = read_list(path, "videos with questions")
    seen: set[str] = set()
    faults = [f"row {index}: {fault}" for index, row in enumerate(file.rows) for fault in _faults(row, seen)]
    refuse(path, faults)
    return EventSplit(path, file.sha256, {row["id"]: row for row in file.rows})


def _faults(row: Any, seen: set[str]) -> Iterator[str]:
    """What is wrong with a row; `seen` collects the ids."""
    if not isinstance(row, dict) or not isinstance(row.get("id"), str) or not row["id"]:
        yield "has no id"
        return
    if row["id"] in seen:
        yield f"{row['id']} occurs twice"
    seen.add(row["id"])
    # An id becomes a file's name, which must not leave the folder of videos.
    if "/" in row["id"] or row["id"].startswith("."):
        yield f"the id {row['id']!r} is no name of a video"
    questions = row.get("questions")
    if not isinstance(questions, list) or not questions:
        yield "has no questions"
        return
    for index, entry in enumerate(questions):
        if not isinstance(entry, dict) or not isinstance(entry.get("question"), str) or not entry["question"].strip():
            yield f"question {index} has no text"
        elif entry.get("answer") not in ("Yes.", "No."):
            yield f'question {index} has the answer {entry.get("answer")!r}, not "Yes." or "No."'
    if not isinstance(row.get("event_info"), dict) or not isinstance(row["event_info"].get("caption"), str):
        yield "has no event_info.caption"
