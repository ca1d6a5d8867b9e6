"""Pairs of generated videos of which people prefer one, in VideoAlign's published format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.csv_table import read_csv
from datamodules.questions.base import Question
from datamodules.questions.files import read_bytes, refuse
from datamodules.questions.rated_videos import TEXT, VIDEOS, RatedVideos

#: What people said of a pair, as published.
CHOICES = ("A", "B", "same")
SIDES = ("A", "B")


@dataclass(frozen=True, slots=True)
class VideoPair:
    """Pair of videos of one prompt, and which of them people prefer.

    Attributes:
        videos: paths within the folder, of A and of B.
        prompt: what both were made from.
        preferred: what was asked of people -> "A", "B" or "same".
    """

    videos: tuple[str, str]
    prompt: str
    preferred: Mapping[str, str]


class PairQuestions(RatedVideos):
    """Videos of a table of pairs, in VideoAlign's format; each video is asked about once, in however many pairs it is.

    Args:
        pairs: a comma-separated table with path_A, path_B, prompt, and a column of A, B or same for each dimension.
        videos: the folder that the paths are relative to; null = read no videos, to score recorded answers.
        dimensions: the columns to read; those that the table lacks are an error.
        question: what is asked about a video, "[[prompt]]" in it being replaced by what it was made from. It
            must bring a reply that the benchmark can read; recorded answers of a reward model need none of its words.
        frames_per_second: how densely a video is shown; null = `num_frames` spread evenly (VideoScore: 16).
        num_frames: the most frames of a video.
        batch_size: videos per batch and rank.
        num_workers: processes that decode.
        allow_missing: leave out pairs with a missing or undecodable video, and say so in the results.
        limit_pairs: only the first pairs, for a quick look.
    """

    def __init__(
        self,
        pairs: str,
        videos: str | None,
        dimensions: list[str],
        question: str,
        frames_per_second: float | None = None,
        num_frames: int = 16,
        batch_size: int = 4,
        num_workers: int = 0,
        allow_missing: bool = False,
        limit_pairs: int | None = None,
    ) -> None:
        super().__init__(videos, frames_per_second, num_frames, batch_size, num_workers, allow_missing, limit_pairs)
        if not dimensions:
            raise ValueError("data.dimensions is empty; name the columns of people's choices")
        self.file = Path(pairs)
        self.dimensions = tuple(dimensions)
        self.question = question
        #: The table's pairs, after `setup`; those beyond the limit too.
        self.pairs: Sequence[VideoPair] = ()
        self._sha256 = ""
        self._places: dict[str, list[tuple[int, int]]] = {}

    def read(self) -> list[Question]:
        """A question for each video.

        Raises:
            ValueError: no such table, or lists all its faults.
        """
        self.pairs = read_pairs(self.file, self.dimensions)
        self._sha256 = read_bytes(self.file)[1]
        first: dict[str, Question] = {}
        faults = []
        for unit, pair in enumerate(self.pairs):
            text = self.question.replace(TEXT, pair.prompt)
            for video in pair.videos:
                question = first.setdefault(video, Question(f"{VIDEOS}/{video}", VIDEOS, unit, text, video, ""))
                # One answer about a video serves all of its pairs, so it is asked about one prompt.
                if question.prompt != text:
                    faults.append(f"row {unit}: {video} has another prompt than in row {question.unit}")
        refuse(self.file, faults)
        self._places = {}
        for index, pair in enumerate(self.pairs[: self.limit]):
            # One video may be in many pairs, on either side.
            for side, video in enumerate(pair.videos):
                self._places.setdefault(video, []).append((index, side))
        return list(first.values())

    def pairs_with(self, video: str) -> Sequence[tuple[int, int]]:
        """(index of the pair, 0 for A or 1 for B) wherever a video occurs within the limit."""
        return self._places.get(video, ())

    def sources(self) -> dict[str, dict[str, Any]]:
        """The table, its hash and its number of pairs."""
        return {VIDEOS: {"file": self.file.name, "sha256": self._sha256, "pairs": len(self.pairs)}}


def read_pairs(path: Path, dimensions: Sequence[str]) -> list[VideoPair]:
    """The pairs of a table, checked.

    Raises:
        ValueError: no such table in UTF-8, or lists missing columns, or every faulty row.
    """
    columns, lines = read_csv(path, "the table of pairs")
    lost = [name for name in ("path_A", "path_B", "prompt", *dimensions) if name not in columns]
    if lost:
        raise ValueError(f"{path} has no columns {', '.join(lost)}; it has {', '.join(columns)}")
    rows = [row for _, row in lines]
    faults = [f"row {index}: {fault}" for index, row in enumerate(rows) for fault in _faults(row, dimensions)]
    refuse(path, faults or ([] if rows else ["there is no pair in it"]))
    return [
        # `Path` takes "./" from the front, so that equal files have equal names.
        VideoPair(
            (Path(row["path_A"]).as_posix(), Path(row["path_B"]).as_posix()),
            row["prompt"],
            {dimension: row[dimension] for dimension in dimensions},
        )
        for row in rows
    ]


def _faults(row: Mapping[str | None, Any], dimensions: Sequence[str]) -> Iterator[str]:
    if None in row:
        yield f"has more cells than columns, the first is {row[None][0]!r}; put texts with commas in quotes"
    if not row["prompt"]:
        yield "has no prompt"
    for side in SIDES:
        path = Path(row[f"path_{side}"] or "")
        if not path.name or path.is_absolute() or ".." in path.parts:
            yield f"path_{side} {row[f'path_{side}']!r} is no path within the folder"
    for name in dimensions:
        if row[name] not in CHOICES:
            yield f"{name} is {row[name]!r}, not {', '.join(CHOICES)}"
