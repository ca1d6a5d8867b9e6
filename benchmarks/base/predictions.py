"""Predictions made elsewhere: read whatever their shape, matched with the questions, every fault listed."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.base.answers import Answer, read_lines, without_asked
from benchmarks.base.prediction_text import NotText, said_in
from datamodules.questions.base import Question
from datamodules.questions.files import listed

#: What tells a question from others, and its answer; None = none was recorded.
Said = tuple[Hashable, Answer | None]


@dataclass(slots=True)
class Recorded:
    """What a file of predictions holds for the questions that are asked.

    Attributes:
        answers: question's key -> answer.
        missing: keys of asked questions without an answer.
        doubled: keys of questions with more than one; they have an answer where all that was said is the same.
        unknown: what was answered besides, readable; the sign of another version of the questions.
        unreadable: what is no record of an answer, with its place.
        absent: files that are not there.
        called: what files are called; "" where they were named one by one.
    """

    answers: dict[str, Answer] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    called: str = ""

    def counts(self) -> dict[str, int]:
        """How many of each fault there are, for the results."""
        names = ("missing", "doubled", "unknown", "unreadable")
        return {name: len(getattr(self, name)) for name in names} | {"absent_files": len(self.absent)}

    def left_out(self) -> dict[str, str]:
        """Key -> why, of the questions that have no answer, or none that is certain."""
        torn = [key for key in self.doubled if key not in self.answers]
        return dict.fromkeys(self.missing, "no recorded answer") | dict.fromkeys(torn, "several recorded answers")

    def check(self, path: Path, allow_missing: bool) -> None:
        """Refuse predictions that do not fit the questions.

        Args:
            path: where they were read, for the message.
            allow_missing: score the rest; still an error when nothing is left.

        Raises:
            ValueError: names the questions that are missing, doubled or unknown, and what could not be read; one line
                where that is all there is.
        """
        called = f" (they are called {self.called}; set model.name, or add them)" if self.called else ""
        named = {
            f"files are not there{called}": self.absent,
            "records cannot be read": self.unreadable,
            "questions lack an answer": self.missing,
            "questions are answered more than once": self.doubled,
            "answers are to questions that are not asked": self.unknown,
        }
        if not (self.answers or self.doubled or self.unknown) and (self.absent or self.unreadable):
            # Nothing was read at all: that every question lacks an answer follows, and would bury the cause.
            named.pop("questions lack an answer")
            if len(lines := [f"{one} does not exist{called}" for one in self.absent] + self.unreadable) == 1:
                raise ValueError(f"{path} does not fit the questions, and nothing in it was read: {lines[0]}")
        faults = [f"{len(keys)} {what}:" + listed(keys, "    ") for what, keys in named.items() if keys]
        if not self.answers or (faults and not allow_missing):
            raise ValueError(
                f"{path} does not fit the questions (another version of them?); score the version that was asked, "
                "or set data.allow_missing: true to score the rest:" + listed(faults)
            )


class RecordedFiles:
    """Files of predictions made elsewhere. What is wrong with their shape is collected and listed with all else.

    Args:
        called: what files are called, for the message; "" where the user names them.
    """

    def __init__(self, called: str = "") -> None:
        self.called = called
        self.unreadable: list[str] = []
        self.absent: list[str] = []

    def content(self, path: Path) -> Any:
        """A JSON file; None where it is not there or is something else."""
        try:
            return json.loads(path.read_bytes())
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
        self.unreadable += [f"{place}: row {at} is no record" for at, row in enumerate(rows) if not _is_record(row)]
        return [row for row in rows if _is_record(row)]

    def named(self, place: str, content: Any) -> dict[str, dict[str, Any]]:
        """The records in an object, by their names; none where there is no content."""
        if content is not None and not _is_record(content):
            self.unreadable.append(f"{place} holds no records by their names")
        rows = content if _is_record(content) else {}
        self.unreadable += [f"{place}: {name} is no record" for name, row in rows.items() if not _is_record(row)]
        return {name: row for name, row in rows.items() if _is_record(row)}

    def matched(self, said: Sequence[Said], identities: Mapping[str, Hashable], asked: Sequence[str]) -> Recorded:
        """`matched`, with what could not be read, and without predictions that are no text."""
        for identity, answer in said:
            for value in (answer or {}).values():
                if isinstance(value, NotText):
                    self.unreadable.append(f"{_place(identity)}: its prediction is {value[:60]}, no text")
        readable = [(identity, None if _unreadable(answer) else answer) for identity, answer in said]
        found = matched(readable, identities, asked)
        return replace(found, unreadable=self.unreadable, absent=self.absent, called=self.called)


def _is_record(row: Any) -> bool:
    return isinstance(row, dict)


def _unreadable(answer: Answer | None) -> bool:
    return any(isinstance(value, NotText) for value in (answer or {}).values())


def _place(identity: Hashable) -> str:
    """An identity in a message: the fields that it is made of."""
    return " / ".join(map(str, identity)) if isinstance(identity, tuple) else str(identity)


def text_of(record: Mapping[str, Any], *names: str) -> str | None:
    """A field as text: the first of these that there is. None where there is none, or it is null."""
    value = next((record[name] for name in names if name in record), None)
    return None if value is None else str(value)


def answer_of(record: Mapping[str, Any], *names: str) -> Answer | None:
    """A record's answer, in the first of these fields that there is (see `said_in`); None = nothing was recorded."""
    said = said_in(record, *names)
    return None if said is None else {"predict": said}


def fields(record: Mapping[str, Any], *names: str) -> tuple[Hashable, ...]:
    """The fields of a record that tell its question, of whatever type they are."""
    values = [record.get(name) for name in names]
    return tuple(json.dumps(value) if isinstance(value, list | dict) else value for value in values)


def matched(
    said: Sequence[Said],
    identities: Mapping[str, Hashable],
    asked: Sequence[str],
    described: Mapping[Hashable, str] | None = None,
) -> Recorded:
    """Find each question's answer by what identifies the question.

    Questions that cannot be told apart (the same one twice in a published file) get their answers in the file's order.

    Args:
        said: (identity, answer) in the file's order; None = the question is there and its answer is not.
        identities: key -> identity of every question of the annotation files.
        asked: keys of the questions that are asked.
        described: identity -> how to name it in a message; None = as it is.
    """
    keys: dict[Hashable, list[str]] = {}
    for key, identity in identities.items():
        keys.setdefault(identity, []).append(key)
    answers: dict[Hashable, list[Answer | None]] = {}
    for identity, answer in said:
        answers.setdefault(identity, []).append(answer)
    wanted, found = set(asked), Recorded()
    for identity, every in answers.items():
        own = keys.get(identity)
        if own is None:
            found.unknown.append((described or {}).get(identity, str(identity)))
            continue
        given = [one for one in every if one is not None]
        if len(given) > len(own):
            found.doubled += [key for key in own if key in wanted]
            if all(one == given[0] for one in given):
                found.answers |= {key: given[0] for key in own if key in wanted}
        else:
            in_place = every if len(every) <= len(own) else given
            pairs = zip(own, in_place, strict=False)
            found.answers |= {key: one for key, one in pairs if key in wanted and one is not None}
    doubled = set(found.doubled)
    found.missing = [key for key in asked if key not in found.answers and key not in doubled]
    return found


def recorded_lines(path: Path, questions: Mapping[str, Question], asked: Sequence[str]) -> Recorded:
    """The answers in a file that a benchmark wrote (`answers.jsonl`), found by what was asked.

    Answers to parts that are not asked do not count; keys may have moved since.

    Raises:
        ValueError: no such file, or lists the lines that are no answers.
    """
    if not path.is_file():
        raise ValueError(f"the recorded answers {path} do not exist")
    parts = {one.part for one in questions.values()}
    lines = [(key, key.split("/")[0], answer) for key, answer in read_lines(path)]
    said = [((part, answer.get("asked")), key, answer) for key, part, answer in lines if part in parts]
    return matched(
        [(identity, without_asked(one)) for identity, _, one in said],
        {key: (one.part, one.fingerprint) for key, one in questions.items()},
        asked,
        {identity: key for identity, key, _ in said},
    )
