"""Predictions made elsewhere: read from files, matched with the questions, every fault listed."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.base.answers import Answer, read_lines, without_asked
from benchmarks.base.prediction_text import NotText, recorded_text
from datamodules.questions.base import Question
from datamodules.questions.files import listed
from datamodules.user_files import user_file

#: A question's identity (what tells it from others) and its answer; None = none was recorded.
Identified = tuple[Hashable, Answer | None]


@dataclass(slots=True)
class Recorded:
    """Recorded answers to the questions that are asked, and the faults of their files.

    Attributes:
        answers: question's key -> answer.
        missing: keys of asked questions without an answer.
        doubled: keys of questions with more than one; they have an answer where all of these are the same.
        unknown: answered questions that are not asked, in words; a sign of another version of the questions.
        unreadable: records that hold no answer, with their places.
        absent: files that do not exist.
        pattern: of the files' names; "" where the user gave one file.
    """

    answers: dict[str, Answer] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    pattern: str = ""

    def counts(self) -> dict[str, int]:
        """How many of each fault there are, for the results."""
        names = ("missing", "doubled", "unknown", "unreadable")
        return {name: len(getattr(self, name)) for name in names} | {"absent_files": len(self.absent)}

    def left_out(self) -> dict[str, str]:
        """Key -> reason, of the questions that have no answer, or several that differ."""
        ambiguous = [key for key in self.doubled if key not in self.answers]
        return dict.fromkeys(self.missing, "no recorded answer") | dict.fromkeys(ambiguous, "several recorded answers")

    def check(self, path: Path, allow_missing: bool) -> None:
        """Refuse predictions that do not fit the questions.

        Args:
            path: where they were read, for the message.
            allow_missing: score the others; still an error when nothing is left.

        Raises:
            ValueError: lists the questions that are missing, doubled or unknown, and what could not be read.
        """
        hint = f" (they are called {self.pattern}; set model.name, or add them)" if self.pattern else ""
        keys_by_fault = {
            f"files do not exist{hint}": self.absent,
            "records cannot be read": self.unreadable,
            "questions lack an answer": self.missing,
            "questions are answered more than once": self.doubled,
            "answers are to questions that are not asked": self.unknown,
        }
        if not (self.answers or self.doubled or self.unknown) and (self.absent or self.unreadable):
            # Nothing was read at all: that every question lacks an answer follows, and would hide the cause.
            keys_by_fault.pop("questions lack an answer")
            if len(lines := [f"{path} does not exist{hint}" for path in self.absent] + self.unreadable) == 1:
                raise ValueError(f"{path} does not fit the questions, and nothing in it was read: {lines[0]}")
        faults = [f"{len(keys)} {fault}:" + listed(keys, "    ") for fault, keys in keys_by_fault.items() if keys]
        if not self.answers or (faults and not allow_missing):
            raise ValueError(
                f"{path} does not fit the questions (another version of them?); score the version that was asked, "
                "or set data.allow_missing: true to score the others:" + listed(faults)
            )


class RecordedFiles:
    """Reader of files of predictions made elsewhere. Faults of their form are collected and listed with all others.

    Args:
        pattern: of the files' names, for the message; "" where the user gives one file.
    """

    def __init__(self, pattern: str = "") -> None:
        self.pattern = pattern
        self.unreadable: list[str] = []
        self.absent: list[str] = []

    def content(self, path: Path) -> Any:
        """The content of a JSON file; None where it does not exist or is something else."""
        try:
            return json.loads(user_file(path).read_bytes())
        except OSError:
            self.absent.append(str(path))
        except (ValueError, RecursionError) as error:
            self.unreadable.append(f"{path} is not JSON ({error})")
        return None

    def rows(self, path: Path) -> list[dict[str, Any]]:
        """The records of a JSON file that holds a list."""
        return self.records(path.name, self.content(path))

    def records(self, place: str, content: Any) -> list[dict[str, Any]]:
        """The records in a list; none where there is no content."""
        if content is not None and not isinstance(content, list):
            self.unreadable.append(f"{place} holds no list of records")
        rows = content if isinstance(content, list) else []
        self.unreadable += [f"{place}: row {i} is no record" for i, row in enumerate(rows) if not isinstance(row, dict)]
        return [row for row in rows if isinstance(row, dict)]

    def named(self, place: str, content: Any) -> dict[str, dict[str, Any]]:
        """The records in an object, by their names; none where there is no content."""
        if content is not None and not isinstance(content, dict):
            self.unreadable.append(f"{place} holds no records by their names")
        rows = content if isinstance(content, dict) else {}
        self.unreadable += [f"{place}: {name} is no record" for name, row in rows.items() if not isinstance(row, dict)]
        return {name: row for name, row in rows.items() if isinstance(row, dict)}

    def matched(
        self, answers: Sequence[Identified], identities: Mapping[str, Hashable], asked: Sequence[str]
    ) -> Recorded:
        """`matched`, with the faults of the files, and without predictions that are no text."""
        readable: list[Identified] = []
        for identity, answer in answers:
            bad = [value for value in (answer or {}).values() if isinstance(value, NotText)]
            place = " / ".join(map(str, identity)) if isinstance(identity, tuple) else str(identity)
            self.unreadable += [f"{place}: its prediction is {value[:60]}, no text" for value in bad]
            # The question counts as recorded without an answer: it is in the file.
            readable.append((identity, None if bad else answer))
        recorded = matched(readable, identities, asked)
        return replace(recorded, unreadable=self.unreadable, absent=self.absent, pattern=self.pattern)


def text_of(record: Mapping[str, Any], *names: str) -> str | None:
    """A field as text: the first of these that there is. None where there is none, or it is null."""
    value = next((record[name] for name in names if name in record), None)
    return None if value is None else str(value)


def answer_of(record: Mapping[str, Any], *names: str) -> Answer | None:
    """A record's answer, in the first of these fields that it has (see `recorded_text`); None = no answer."""
    text = recorded_text(record, *names)
    return None if text is None else {"predict": text}


def fields(record: Mapping[str, Any], *names: str) -> tuple[Hashable, ...]:
    """The fields of a record that identify its question, of any JSON types, as a tuple that can be a key."""
    values = [record.get(name) for name in names]
    # Lists and objects cannot be keys of a dictionary; their JSON can.
    return tuple(json.dumps(value) if isinstance(value, list | dict) else value for value in values)


def matched(
    answers: Sequence[Identified],
    identities: Mapping[str, Hashable],
    asked: Sequence[str],
    names: Mapping[Hashable, str] | None = None,
) -> Recorded:
    """Find each question's answer by what identifies the question.

    Questions with equal identities (the same one twice in a published file) get their answers in the file's order.

    Args:
        answers: (identity, answer) in the file's order; None = the question is in the file and its answer is not.
        identities: key -> identity of every question of the annotation files.
        asked: keys of the questions that are asked.
        names: identity -> its name in a message; None = the identity itself.
    """
    keys_of: dict[Hashable, list[str]] = {}
    for key, identity in identities.items():
        keys_of.setdefault(identity, []).append(key)
    answers_of: dict[Hashable, list[Answer | None]] = {}
    for identity, answer in answers:
        answers_of.setdefault(identity, []).append(answer)
    to_answer, recorded = set(asked), Recorded()
    for identity, rows in answers_of.items():
        keys = keys_of.get(identity)
        if keys is None:
            recorded.unknown.append((names or {}).get(identity, str(identity)))
            continue
        given_answers = [answer for answer in rows if answer is not None]
        if len(given_answers) > len(keys):
            recorded.doubled += [key for key in keys if key in to_answer]
            # The same answer several times leaves no doubt about which one counts.
            if all(answer == given_answers[0] for answer in given_answers):
                recorded.answers |= {key: given_answers[0] for key in keys if key in to_answer}
        else:
            # A row without an answer keeps its place among equal questions, unless there are more rows than questions.
            in_place = rows if len(rows) <= len(keys) else given_answers
            pairs = zip(keys, in_place, strict=False)
            recorded.answers |= {key: answer for key, answer in pairs if key in to_answer and answer is not None}
    doubled = set(recorded.doubled)
    recorded.missing = [key for key in asked if key not in recorded.answers and key not in doubled]
    return recorded


def recorded_lines(path: Path, questions: Mapping[str, Question], asked: Sequence[str]) -> Recorded:
    """The answers in a file that a benchmark wrote (`answers.jsonl`), found by the fingerprints of their questions.

    Answers to parts that are not asked do not count; keys may have changed since.

    Raises:
        ValueError: no such file, or lists the lines that are no answers.
    """
    if not path.is_file():
        raise ValueError(f"the recorded answers {path} do not exist")
    parts = {question.part for question in questions.values()}
    answers: list[Identified] = []
    names: dict[Hashable, str] = {}
    for key, answer in read_lines(path):
        part = key.split("/")[0]
        if part in parts:
            # By fingerprint and not by key: under the same key there may be another question by now.
            identity = part, answer.get("asked")
            answers.append((identity, without_asked(answer)))
            names[identity] = key
    identities = {key: (question.part, question.fingerprint) for key, question in questions.items()}
    return matched(answers, identities, asked, names)
