"""Base of benchmarks on pairs of videos: a judge's scores compared with people's preferences."""

from __future__ import annotations

import json
import math
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from benchmarks.base.answer_metric import AnswerMetric
from benchmarks.base.answers import Answer
from benchmarks.base.bootstrap import Intervals, intervals
from benchmarks.base.judge_replies import UnparsedCounts
from benchmarks.base.predictions import Recorded, matched
from benchmarks.ratings.judge import RatingBenchmark
from datamodules.csv_table import read_csv
from datamodules.questions.base import Question
from datamodules.questions.files import refuse
from datamodules.questions.rated_pairs import PairQuestions
from datamodules.questions.rated_videos import VIDEOS
from lightning_modules.judges.base import Judge

_OBJECT = re.compile(r"\{[^{}]*\}")
_LIST = re.compile(r"\[[^\[\]]*\]")

#: Scores of a video: what is scored -> score.
Scores = Mapping[str, float]


class RatedPair(NamedTuple):
    """Pair of videos with its scores.

    Attributes:
        first: scores of A; None = unknown.
        second: scores of B; None = unknown.
        preferred: people's choice in each dimension, "A", "B" or "same".
    """

    first: Scores | None
    second: Scores | None
    preferred: Mapping[str, str]


def parse_scores(reply: str, names: Sequence[str]) -> dict[str, float] | None:
    """The scores in a reply: its last JSON object with a number for each name.

    Without such an object, its last list of as many numbers: a reply may also list the scale that it scores on.
    """
    objects, lists = _OBJECT.findall(reply), _LIST.findall(_OBJECT.sub("", reply))
    for text in (*reversed(objects), *reversed(lists)):
        try:
            scores = json.loads(text)
        except ValueError:
            continue
        values = [scores.get(name) for name in names] if isinstance(scores, dict) else scores
        # json also reads NaN and Infinity, which no judge means as a score.
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)]
        if len(values) == len(names) == len(numbers):
            return dict(zip(names, map(float, numbers), strict=True))
    return None


class PairMetric(AnswerMetric):
    """Metric of a benchmark's `score` over replies in any order and from any rank.

    `update` takes video's key -> {"predict": the reply, "video": its path, "pairs": [[pair's number, side,
    preferred]]}, for every pair that it is in, on side 0 or 1.

    Args:
        benchmark: the class whose `score` is computed.
    """

    def __init__(self, benchmark: type[PairRatings], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.benchmark = benchmark

    def score_items(self, items: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The results."""
        rows = _joined([item for item in items.values() if "predict" in item])
        return self.benchmark.score([self.benchmark.pair_of(row) for row in rows])


class PairRatings(RatingBenchmark):
    """Base class of benchmarks in which a judge scores every video of a table of pairs.

    Args:
        judge: scores the videos; None with `predictions`.
        output: the folder for the results.
        predictions: recorded scores; None with `judge`.
    """

    #: The dimensions that a judge scores.
    scored: ClassVar[tuple[str, ...]]
    #: Names of what `counted` counts.
    counted_names: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        judge: Judge | None,
        output: str,
        predictions: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(judge, output, metric=PairMetric(type(self)), predictions=predictions, **options)

    @staticmethod
    @abstractmethod
    def score(pairs: Sequence[RatedPair]) -> dict[str, Any]:
        """The results of at least one pair."""

    @staticmethod
    @abstractmethod
    def counted(pairs: Sequence[RatedPair]) -> dict[str, tuple[list[list[float]], list[list[float]]]]:
        """Part of the results -> (hits, counts), each (pairs, `counted_names`), for the intervals."""

    @property
    def questions(self) -> PairQuestions:
        """The data module of the questions."""
        questions: PairQuestions = self.data_module(PairQuestions)
        return questions

    def readable(self, reply: str) -> bool:
        """Whether it holds all scores."""
        return parse_scores(reply, self.scored) is not None

    def item(self, question: Question, answer: Answer) -> dict[str, Any]:
        """The reply, and the pairs that it is for."""
        questions = self.questions
        pairs = [
            [number, side, dict(questions.pairs[number].preferred)]
            for number, side in questions.pairs_with(question.video)
        ]
        return {"predict": answer["predict"], "video": question.video, "pairs": pairs}

    def recorded(self, path: Path) -> Recorded:
        """A table with a row for each video, or lines of replies."""
        if path.suffix == ".jsonl":
            return super().recorded(path)
        questions = self.questions
        # By its path: a video that is in several pairs is one question and is scored once.
        identities = {key: question.video for key, question in questions.everything.items()}
        return matched(read_table(path, self.scored), identities, questions.asked)

    def predictions_of(self, answers: Mapping[str, Answer]) -> dict[str, list[dict[str, Any]]]:
        """The pairs both of whose videos have a reply."""
        return {VIDEOS: _joined(list(answers.values()))}

    @classmethod
    def pair_of(cls, row: Mapping[str, Any]) -> RatedPair:
        """A pair with the scores in its replies."""
        first, second = (parse_scores(text, cls.scored) for text in row["replies"])
        return RatedPair(first, second, row["preferred"])

    @classmethod
    def pairs_of(cls, predictions: Mapping[str, Any]) -> list[RatedPair]:
        """All pairs with the scores in their replies."""
        return [cls.pair_of(row) for row in predictions[VIDEOS]]

    def files(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """One file with all pairs, their replies and people's choices."""
        return {f"pairs_{self.name}.json": predictions[VIDEOS]}

    def intervals(self, predictions: Mapping[str, Any], seed: int) -> Intervals:
        """The intervals of every accuracy, pairs resampled; a threshold stays that of all pairs."""
        counted = self.counted(self.pairs_of(predictions))
        hits = {name: pair_hits for name, (pair_hits, _) in counted.items()}
        counts = {name: pair_counts for name, (_, pair_counts) in counted.items()}
        return intervals(hits, counts, self.counted_names, {}, seed)

    def unparsed(self, results: Mapping[str, Any]) -> UnparsedCounts:
        """Those of every accuracy: pairs with a reply that cannot be read count as wrong."""
        return {
            f"{name}/{kind}": (scores["unparsed"], scores["pairs"])
            for name, scores in results.items()
            for kind in self.counted_names
        }

    def details(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """The replies that could not be read."""
        replies = {
            video: reply
            for row in predictions[VIDEOS]
            for video, reply in zip(row["videos"], row["replies"], strict=True)
        }
        unread = {video: reply for video, reply in replies.items() if not parse_scores(reply, self.scored)}
        return {"unparsed_replies": unread}


def read_table(path: Path, names: Sequence[str]) -> list[tuple[str, Answer]]:
    """(video's path, its scores as a reply) from a table with `path` and a column NAME or `reward_NAME` each.

    Raises:
        ValueError: no such table in UTF-8, it lacks columns, or lists every row without a path or with too many cells.
    """
    header, lines = read_csv(path, "the table of recorded scores")
    columns = {name: next((c for c in (f"reward_{name}", name) if c in header), "") for name in ("path", *names)}
    absent = [name for name, column in columns.items() if not column]
    if absent:
        raise ValueError(f"{path} has no columns {', '.join(absent)}; it has {', '.join(header)}")
    rows = [row for _, row in lines]
    # Python's csv puts surplus cells under the key None.
    refuse(path, [f"row {i}: has no path" for i, row in enumerate(rows) if not row[columns["path"]]]
           + [f"row {i}: has more cells than columns" for i, row in enumerate(rows) if None in row])  # fmt: skip
    answers: list[tuple[str, Answer]] = []
    for row in rows:
        # As the text of a reply, which is read like a judge's: an empty or other cell is an unread one.
        reply = "{" + ", ".join(f'"{name}": {row[columns[name]] or "null"}' for name in names) + "}"
        answers.append((Path(row[columns["path"]]).as_posix(), {"predict": reply}))
    return answers


def _joined(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """{"videos", "replies", "preferred"} of every pair both of whose videos have a reply, in the table's order."""
    sides: dict[int, dict[int, tuple[str, str]]] = {}
    preferred: dict[int, Mapping[str, str]] = {}
    for item in items:
        for number, side, choices in item["pairs"]:
            sides.setdefault(number, {})[side] = item["video"], item["predict"]
            preferred[number] = choices
    return [
        {
            "videos": [sides[number][side][0] for side in (0, 1)],
            "replies": [sides[number][side][1] for side in (0, 1)],
            "preferred": preferred[number],
        }
        for number in sorted(sides)
        if len(sides[number]) == 2
    ]
