"""Answers on disk as they come: one JSON line an answer, one file a rank, joined at the end.

A benchmark that is started again in the same folder asks only what is not answered there. A line is
{"key", "asked": fingerprint of the question, "predict": the answer's text, ...}.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.base.prediction_text import prediction_text
from benchmarks.base.results import DETAILS_FILE, RESULTS_FILE, UNITS_FILE, write_json
from datamodules.questions.base import Question
from datamodules.questions.files import listed
from datamodules.shards.files import replaced_file
from datamodules.stream.predict_outputs import differences, plain
from lightning_modules.file_contents import warn_uncompared

#: The answer to one question: at least {"predict": str}.
Answer = dict[str, Any]

#: All answers of a finished evaluation, and of an unfinished one the folder of the ranks' files.
ANSWERS_FILE = "answers.jsonl"
PARTS_FOLDER = "answers"
_PART = re.compile(r"rank-\d{5,}\.jsonl")
#: What the answers depend on: policy, prompt, frames ...
SETTINGS_FILE = "answers.settings.json"


class AnswerLog:
    """Log of the answers in a benchmark's output folder. All ranks must see the same folder.

    Args:
        folder: the output folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._appended = False

    # Before questions are asked

    def begin(self, settings: Mapping[str, Any], fresh: bool) -> None:
        """Write the settings on which the next answers depend; on rank 0 only, so that it refuses nothing.

        Args:
            settings: plain types.
            fresh: forget the answers that are there, and what was made of them.
        """
        if fresh:
            self._remove_parts()
            # Results, too: if this start were interrupted, they would be taken for its own.
            for name in (ANSWERS_FILE, SETTINGS_FILE, RESULTS_FILE, DETAILS_FILE, UNITS_FILE):
                (self.folder / name).unlink(missing_ok=True)
        answered = (self.folder / ANSWERS_FILE).is_file() or bool(self.parts())
        if not answered or not (self.folder / SETTINGS_FILE).is_file():
            write_json(self.folder / SETTINGS_FILE, plain(settings))

    def check(self, settings: Mapping[str, Any]) -> None:
        """Refuse to continue under other settings; on all ranks, so that all stop.

        Raises:
            ValueError: lists every setting that differs.
        """
        before = json.loads((self.folder / SETTINGS_FILE).read_bytes())
        changed = differences(before, plain(settings))
        if changed:
            raise ValueError(
                f"the answers in {self.folder} were given under other settings; take another model.output, or set "
                "model.fresh: true to forget them:\n  " + "\n  ".join(changed)
            )
        warn_uncompared(self.folder, before, plain(settings))

    def read(self) -> dict[str, Answer]:
        """The answers by key.

        Raises:
            ValueError: a file holds something else, or two answers to one question.
        """
        answers: dict[str, Answer] = {}
        joined = self.folder / ANSWERS_FILE
        # The ranks' files come later: they hold what was answered after the files were last joined.
        for path in (*([joined] if joined.is_file() else []), *self.parts()):
            answers |= unique(read_lines(path, growing=path != joined), path)
        return answers

    # While questions are asked

    def append(self, rank: int, lines: Iterable[Mapping[str, Any]]) -> None:
        """Write answers by one system call, so that a killed process leaves at most one line without an end."""
        content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        if not content:
            return
        path = self.folder / PARTS_FOLDER / f"rank-{rank:05d}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        # Open for this write alone: Lightning says nothing to a module when a run fails, so nobody would close it.
        with path.open("ab", buffering=0) as file:
            if not self._appended:
                # A killed process's last line has no end; it is cut off, and its question asked again.
                file.truncate(path.read_bytes().rfind(b"\n") + 1)
                self._appended = True
            file.write(content)

    # When all questions are answered

    def join(self, order: Sequence[str]) -> None:
        """Join all answers into one file; on rank 0, when all ranks have written theirs.

        Args:
            order: the questions' keys; answers to others come last.
        """
        answers = self.read()
        keys = dict.fromkeys([key for key in order if key in answers] + list(answers))
        path = self.folder / ANSWERS_FILE
        with replaced_file(path) as file:
            file.writelines((json.dumps({"key": key, **answers[key]}) + "\n").encode() for key in keys)
        self._remove_parts()

    # The ranks' files

    def parts(self) -> list[Path]:
        """The files that ranks of an unfinished evaluation have written, in order; files of other names are ignored."""
        folder = self.folder / PARTS_FOLDER
        return sorted(path for path in folder.iterdir() if _PART.fullmatch(path.name)) if folder.is_dir() else []

    def _remove_parts(self) -> None:
        """Remove the ranks' files, and their folder unless it has something else in it."""
        for path in self.parts():
            path.unlink()
        with contextlib.suppress(OSError):  # it is not there, or not empty
            (self.folder / PARTS_FOLDER).rmdir()


def read_lines(path: Path, growing: bool = False) -> list[tuple[str, Answer]]:
    """(key, answer) of every line, in order.

    Args:
        path: the file.
        growing: a rank appends to it, so that a last line without an end is unfinished and does not count.

    Raises:
        ValueError: names the lines that are no answers.
    """
    answers, faults = [], []
    lines = path.read_bytes().split(b"\n")
    if growing or not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, start=1):
        try:
            answer = json.loads(line)
            key, predict = str(answer.pop("key")), answer["predict"]
            if predict is None:
                raise ValueError("null is no answer")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            faults.append(f'line {number} is no object with "key" and "predict"')
            continue
        try:
            answers.append((key, {**answer, "predict": prediction_text(predict)}))
        except ValueError as error:
            faults.append(f"line {number}: {error}")
    if faults:
        raise ValueError(f"{path} has {len(faults)} lines that are no answers:{listed(faults)}")
    return answers


def unique(answers: Sequence[tuple[str, Answer]], path: Path) -> dict[str, Answer]:
    """The answers by key.

    Raises:
        ValueError: lists every question that was answered twice.
    """
    doubled = [key for key, count in Counter(key for key, _ in answers).items() if count > 1]
    if doubled:
        raise ValueError(
            f"{path} answers {len(doubled)} questions more than once; keep one line for each:{listed(doubled)}"
        )
    return dict(answers)


def line_of(question: Question, answer: Mapping[str, Any]) -> dict[str, Any]:
    """The line of an answer."""
    return {"key": question.key, "asked": question.fingerprint, **answer}


def asked_as_now(answers: Mapping[str, Answer], questions: Mapping[str, Question], place: Path) -> dict[str, Answer]:
    """The answers without "asked", after a check that they were given to the questions that are asked now.

    Raises:
        ValueError: lists all that were given to other questions.
    """
    other = [
        key for key, answer in answers.items() if key in questions and answer.get("asked") != questions[key].fingerprint
    ]
    if other:
        raise ValueError(
            f"{len(other)} answers in {place} were given to other questions (another version of the annotation files, "
            "or another prompt); use the version that was asked:" + listed(other)
        )
    return {key: without_asked(answer) for key, answer in answers.items()}


def without_asked(answer: Answer) -> Answer:
    """An answer without its question's fingerprint."""
    return {name: value for name, value in answer.items() if name != "asked"}


def check_same(kept: Mapping[str, Answer], recorded: Mapping[str, Answer], place: Path) -> None:
    """Refuse kept answers that were made from other recorded ones than those of this run.

    Raises:
        ValueError: lists all of them.
    """
    # A kept answer may have more than the recorded one: the judge's replies.
    other = [key for key, answer in kept.items() if key not in recorded or {**answer, **recorded[key]} != answer]
    if other:
        raise ValueError(
            f"{len(other)} answers in {place} are not those of model.predictions; take another model.output, or set "
            "model.fresh: true to forget them:" + listed(other)
        )
