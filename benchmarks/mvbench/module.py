"""MVBench (arXiv 2311.17005): multiple choice in twenty tasks, read as lmms-eval or as the benchmark's own script does.

The headline is the unweighted mean of the tasks. A reply is searched for a letter; one without any is wrong, and is
counted. lmms-eval leaves empty replies out instead, which a silent model would gain by; the benchmark's own script
counts an empty reply as right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.base.answer_metric import AnswerMetric
from benchmarks.base.answers import Answer
from benchmarks.base.benchmark import Benchmark
from benchmarks.base.bootstrap import Intervals, Pool, intervals
from benchmarks.base.predictions import Recorded, RecordedFiles, Said, answer_of, fields, recorded_lines
from benchmarks.base.source import Source
from datamodules.questions.base import Question
from datamodules.questions.mvbench import TASKS, MVBenchQuestions
from lightning_modules.policies.video_llm import VideoLLM

#: Marks that are taken out before a letter is looked for.
_MARKS = ';/[]"{}()=+\\_->@`,?!<'
_LETTER_FIRST = re.compile(r"([A-E])\.\s*.+$", re.IGNORECASE)
#: With a bracket in front or not, and behind it a bracket, a full stop that ends the word, or nothing.
_LETTER_BEGINS = re.compile(r"\(*([A-E])(?:\)|\.?(?:\s|$))", re.IGNORECASE)
_LMMS_EVAL = "lmms-eval 75571cfe: the first lone letter A to E"
_LETTER_ALONE = re.compile(r"\b[A-E]\b", re.IGNORECASE)


def parse_choice(reply: str) -> str | None:
    """The letter that a reply names, "A" to "E"; None where it names none.

    A letter with a full stop in front counts, else the first letter that stands alone once punctuation is gone, in
    upper or lower case. The published reading has its price: in "It is a dog." the article is choice A.
    """
    text = reply.strip()
    if found := _LETTER_FIRST.match(text):
        return found[1].upper()
    text = re.sub(r"[\n\t]", " ", text).strip()
    between_digits = re.search(r"\d,\d", text) is not None
    bare = text
    for mark in _MARKS:
        joins = between_digits or f"{mark} " in text or f" {mark}" in text
        bare = bare.replace(mark, "" if joins else " ")
    bare = re.sub(r"\.(?!\d)", "", bare)
    alone = _LETTER_ALONE.search(bare)
    return None if alone is None else alone[0].upper()


def parse_first_choice(reply: str) -> str | None:
    """The letter with which a reply begins, as the benchmark's own script reads what follows "Best option:(".

    The first word of the first line must be a letter, in brackets or not, with a full stop or not: "A) it falls",
    "(A) it falls" and "a." are choice A, and "It is a dog" names none.
    """
    lines = reply.strip().splitlines()
    first = _LETTER_BEGINS.match(lines[0]) if lines else None
    return None if first is None else first[1].upper()


def score(
    predictions: Mapping[str, Sequence[tuple[str, str]]], read: Callable[[str], str | None] = parse_choice
) -> dict[str, dict[str, float]]:
    """Accuracies from replies.

    Args:
        predictions: task -> (right letter, reply) of its questions.
        read: the letter that a reply names, see `parse_choice` (lmms-eval) and `parse_first_choice` (the benchmark).

    Returns:
        task -> {"accuracy" in [0, 1], "questions", "unparsed" (replies without a letter), "empty" (those that say
        nothing)}, and "all": the unweighted mean of the tasks' accuracies, with the sums of the counts and how many
        "tasks" there are; the published number has twenty.

    Raises:
        ValueError: no task, or one without a question.
    """
    empty = [task for task, pairs in predictions.items() if not pairs]
    if empty or not predictions:
        raise ValueError(f"no replies to score in {', '.join(empty) or 'any task'}; leave these tasks out")
    found = {task: _task_score(pairs, read) for task, pairs in predictions.items()}
    sums = {name: sum(one[name] for one in found.values()) for name in ("questions", "unparsed", "empty")}
    mean = sum(one["accuracy"] for one in found.values()) / len(found)
    return {**found, "all": {"accuracy": mean, **sums, "tasks": len(found)}}


def _task_score(pairs: Sequence[tuple[str, str]], read: Callable[[str], str | None]) -> dict[str, float]:
    letters = [read(reply) for _, reply in pairs]
    right = sum(letter == gold for letter, (gold, _) in zip(letters, pairs, strict=True))
    return {
        "accuracy": right / len(pairs),
        "questions": len(pairs),
        "unparsed": letters.count(None),
        "empty": sum(not reply.strip() for _, reply in pairs),
    }


class MVBenchMetric(AnswerMetric):
    """`score` over answers that come one by one, in any order and from any rank.

    `update` takes question's key ("TASK/ROW") -> {"answer": the right letter, "predict": what was said}.
    """

    #: The letter that a reply names; `MVBench` chooses the reading that belongs to the prompt.
    read: Callable[[str], str | None] = staticmethod(parse_choice)

    def score_items(self, items: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The results."""
        found: dict[str, list[tuple[str, str]]] = {}
        for key, item in items.items():
            if "predict" in item:
                found.setdefault(key.split("/")[0], []).append((item["answer"], item["predict"]))
        return score(found, self.read)


class MVBench(Benchmark):
    """Asks a policy multiple-choice questions, or takes recorded answers.

    Into `output` go `TASK_NAME.json` (the annotation with "predict"), `results.json`, `details.json` and
    `answers.jsonl`.

    Args:
        policy: the model that answers, with or without an adapter; null with `predictions`.
        output: the folder for the results; an unfinished evaluation in it is continued.
        predictions: recorded answers to score again: a folder of `TASK_NAME.json`, or an `answers.jsonl`; null with
            `policy`.
        max_new_tokens: the longest answer, in tokens.
    """

    title = "MVBench"
    protocol = "MVBench: all = mean over tasks"
    logged = {"accuracy": "all/accuracy", "unparsed": "all/unparsed"}  # noqa: RUF012
    unread = "all/unparsed"

    def __init__(
        self,
        policy: VideoLLM | None,
        output: str,
        predictions: str | None = None,
        max_new_tokens: int = 16,
        **options: Any,
    ) -> None:
        source = Source(policy, output, predictions, max_new_tokens=max_new_tokens, **options)
        super().__init__(source, MVBenchMetric())

    @property
    def questions(self) -> MVBenchQuestions:
        """The data module that asks."""
        asks: MVBenchQuestions = self.asked_by(MVBenchQuestions)
        return asks

    @property
    def remarks(self) -> tuple[str, ...]:
        """With whose numbers these compare."""
        return (self.questions.chosen.compares,)

    def setup(self, stage: str) -> None:
        """With the reading of replies that belongs to the prompt."""
        self.metric.read = self._read
        super().setup(stage)

    @property
    def _read(self) -> Callable[[str], str | None]:
        """How a letter is found: behind the benchmark's own prompt as its script does, else as lmms-eval does."""
        return parse_first_choice if self.questions.answer_start else parse_choice

    def how_measured(self) -> str:
        """With the reading of replies."""
        own = "MVBench's own script: the letter with which a reply begins"
        return f"{self.protocol}; read as by {own if self.questions.answer_start else _LMMS_EVAL}"

    def recorded(self, path: Path) -> Recorded:
        """Files that a run wrote, found by video and question; or the lines of an `answers.jsonl`."""
        asks = self.questions
        if path.suffix == ".jsonl":
            return recorded_lines(path, asks.everything, asks.asked)
        files = RecordedFiles("TASK_NAME.json")
        said: list[Said] = [
            (_identity(task, row), answer_of(row, "predict"))
            for task in asks.tasks
            for row in files.rows(path / prediction_file(task, self.name))
        ]
        identities = {key: _identity(one.part, asks.record(one)) for key, one in asks.everything.items()}
        return files.matched(said, identities, asks.asked)

    def predictions_of(self, answers: Mapping[str, Answer]) -> dict[str, list[dict[str, Any]]]:
        """The annotation's records with "predict", and "letter", the right one."""
        found: dict[str, list[dict[str, Any]]] = {}
        for key, answer in answers.items():
            one: Question = self.questions.everything[key]
            record = {**self.questions.record(one), "predict": answer["predict"], "letter": one.answer}
            found.setdefault(one.part, []).append(record)
        return found

    def files(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """A file for each task."""
        return {prediction_file(task, self.name): rows for task, rows in predictions.items()}

    def intervals(self, predictions: Mapping[str, Any], seed: int) -> Intervals:
        """Of every task and their mean, questions drawn again within each task."""
        hits = {
            task: np.array([[self._read(row["predict"]) == row["letter"]] for row in rows])
            for task, rows in predictions.items()
        }
        counts = {task: np.ones_like(one) for task, one in hits.items()}
        return intervals(hits, counts, ["accuracy"], {"all": Pool(list(hits), "mean")}, seed)

    def details(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """The tasks that were left out, and the replies without a letter."""
        unread = {
            task: [row["predict"] for row in rows if self._read(row["predict"]) is None]
            for task, rows in predictions.items()
        }
        return {
            "absent_tasks": [task for task in TASKS if task not in predictions],
            "unparsed_replies": {task: replies for task, replies in unread.items() if replies},
        }


def prediction_file(task: str, name: str) -> str:
    """The file of a task's answers, for answers called `name`."""
    return f"{task}_{name}.json"


def _identity(task: str, row: Mapping[str, Any]) -> tuple[Hashable, ...]:
    return task, *fields(row, "video", "question", "start", "candidates")
