"""MVBench (arXiv 2311.17005): multiple choice in twenty tasks, read as lmms-eval or as the benchmark's own script does.

The headline is the unweighted mean of the tasks. A reply is searched for a letter; one without any is wrong, and is
counted. lmms-eval leaves empty replies out instead, which favours a silent model; the benchmark's own script counts an
empty reply as right.
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
from benchmarks.base.predictions import Identified, Recorded, RecordedFiles, answer_of, fields, recorded_lines
from benchmarks.base.source import Source
from datamodules.questions.base import Question
from datamodules.questions.mvbench import TASKS, MVBenchQuestions
from lightning_modules.policies.video_llm import VideoLLM

#: Marks that are removed before a letter is looked for.
_MARKS = ';/[]"{}()=+\\_->@`,?!<'
_LETTER_FIRST = re.compile(r"([A-E])\.\s*.+$", re.IGNORECASE)
#: With a bracket in front or not, and behind it a bracket, a full stop that ends the word, or nothing.
_LETTER_BEGINS = re.compile(r"\(*([A-E])(?:\)|\.?(?:\s|$))", re.IGNORECASE)
_LMMS_EVAL = "lmms-eval 75571cfe: the first lone letter A to E"
_LETTER_ALONE = re.compile(r"\b[A-E]\b", re.IGNORECASE)


def parse_choice(reply: str) -> str | None:
    """The letter that a reply names, "A" to "E"; None where it names none.

    A letter with a full stop at the beginning counts, else the first lone letter once punctuation is removed, in upper
    or lower case. By this published rule the article in "It is a dog." is choice A.
    """
    text = reply.strip()
    if match := _LETTER_FIRST.match(text):
        return match[1].upper()
    text = re.sub(r"[\n\t]", " ", text).strip()
    # As published: a mark becomes a space, or nothing where it is next to a space or the reply has a 1,000 in it.
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
    scores = {task: _task_score(pairs, read) for task, pairs in predictions.items()}
    sums = {name: sum(task[name] for task in scores.values()) for name in ("questions", "unparsed", "empty")}
    mean = sum(task["accuracy"] for task in scores.values()) / len(scores)
    return {**scores, "all": {"accuracy": mean, **sums, "tasks": len(scores)}}


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
    """Metric of `score` over answers in any order and from any rank.

    `update` takes question's key ("TASK/ROW") -> {"answer": the right letter, "predict": the reply}.
    """

    #: The letter that a reply names; `MVBench` chooses the reading that belongs to the prompt.
    read: Callable[[str], str | None] = staticmethod(parse_choice)

    def score_items(self, items: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The results."""
        replies: dict[str, list[tuple[str, str]]] = {}
        for key, item in items.items():
            if "predict" in item:
                replies.setdefault(key.split("/")[0], []).append((item["answer"], item["predict"]))
        return score(replies, self.read)


class MVBench(Benchmark):
    """Benchmark of multiple-choice questions in twenty tasks.

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
        """The data module of the questions."""
        questions: MVBenchQuestions = self.data_module(MVBenchQuestions)
        return questions

    @property
    def remarks(self) -> tuple[str, ...]:
        """A remark on which published numbers these are comparable with."""
        return (self.questions.chosen.compares,)

    def setup(self, stage: str) -> None:
        """Choose the reading of replies that belongs to the prompt, then check what all benchmarks check."""
        # Only now: the data module has the prompt, and is not known before the trainer is.
        self.metric.read = self._read
        super().setup(stage)

    @property
    def _read(self) -> Callable[[str], str | None]:
        """The reading of a reply: as the benchmark's own script for its own prompt, else as lmms-eval."""
        return parse_first_choice if self.questions.answer_start else parse_choice

    def how_measured(self) -> str:
        """The protocol, with the reading of replies."""
        own_script = "MVBench's own script: the letter with which a reply begins"
        return f"{self.protocol}; read as by {own_script if self.questions.answer_start else _LMMS_EVAL}"

    def recorded(self, path: Path) -> Recorded:
        """Files that a run wrote, found by video and question; or the lines of an `answers.jsonl`."""
        questions = self.questions
        if path.suffix == ".jsonl":
            return recorded_lines(path, questions.everything, questions.asked)
        files = RecordedFiles("TASK_NAME.json")
        answers: list[Identified] = [
            (_identity(task, row), answer_of(row, "predict"))
            for task in questions.tasks
            for row in files.rows(path / prediction_file(task, self.name))
        ]
        identities = {key: _identity(q.part, questions.record(q)) for key, q in questions.everything.items()}
        return files.matched(answers, identities, questions.asked)

    def predictions_of(self, answers: Mapping[str, Answer]) -> dict[str, list[dict[str, Any]]]:
        """The annotation's records with "predict", and "letter", the right one."""
        records: dict[str, list[dict[str, Any]]] = {}
        for key, answer in answers.items():
            question: Question = self.questions.everything[key]
            record = {**self.questions.record(question), "predict": answer["predict"], "letter": question.answer}
            records.setdefault(question.part, []).append(record)
        return records

    def files(self, predictions: Mapping[str, Any]) -> dict[str, Any]:
        """A file for each task."""
        return {prediction_file(task, self.name): rows for task, rows in predictions.items()}

    def intervals(self, predictions: Mapping[str, Any], seed: int) -> Intervals:
        """The intervals of every task and of their mean, questions resampled within each task."""
        hits = {
            task: np.array([[self._read(row["predict"]) == row["letter"]] for row in rows])
            for task, rows in predictions.items()
        }
        counts = {task: np.ones_like(task_hits) for task, task_hits in hits.items()}
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
    """The task, and the fields of its record that tell a question from others."""
    return task, *fields(row, "video", "question", "start", "candidates")
