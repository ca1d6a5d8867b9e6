"""Predictions made elsewhere: matched with the questions, every fault listed."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.answers import Answer, read_lines
from datamodules.video_questions import Question


@dataclass(slots=True)
class Recorded:
    """What a file of predictions holds for the questions that are asked.

    Attributes:
        answers: question's key -> answer.
        missing: keys of asked questions without an answer.
        doubled: keys of questions with more than one; they have an answer where all that was said is the same.
        unknown: what was answered besides, readable; the sign of another version of the questions.
    """

    answers: dict[str, Answer] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

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
            ValueError: lists every question that is missing, doubled or unknown.
        """
        told = {
            "questions lack an answer": self.missing,
            "questions are answered more than once": self.doubled,
            "answers are to questions that are not asked": self.unknown,
        }
        faults = [f"{len(keys)} {what}:\n    " + "\n    ".join(keys) for what, keys in told.items() if keys]
        if not self.answers or (faults and not allow_missing):
            raise ValueError(
                f"{path} does not fit the questions (another version of them?); score the version that was asked, "
                "or set data.allow_missing: true to score the rest:\n  " + "\n  ".join(faults)
            )


def matched(
    said: Sequence[tuple[Hashable, Answer]],
    identities: Mapping[str, Hashable],
    asked: Sequence[str],
    described: Mapping[Hashable, str] | None = None,
) -> Recorded:
    """Find each question's answer by what identifies the question.

    Questions that cannot be told apart (the same one twice in a published file) get their answers in the file's order.

    Args:
        said: (identity, answer) in the file's order.
        identities: key -> identity of every question of the annotation files.
        asked: keys of the questions that are asked.
        described: identity -> how to name it in a message; None = as it is.
    """
    keys: dict[Hashable, list[str]] = {}
    for key, identity in identities.items():
        keys.setdefault(identity, []).append(key)
    answers: dict[Hashable, list[Answer]] = {}
    for identity, answer in said:
        answers.setdefault(identity, []).append(answer)
    wanted, found = set(asked), Recorded()
    for identity, given in answers.items():
        own = keys.get(identity)
        if own is None:
            found.unknown.append((described or {}).get(identity, str(identity)))
        elif len(given) > len(own):
            found.doubled += [key for key in own if key in wanted]
            if all(one == given[0] for one in given):
                found.answers |= {key: given[0] for key in own if key in wanted}
        else:
            found.answers |= {key: one for key, one in zip(own, given, strict=False) if key in wanted}
    doubled = set(found.doubled)
    found.missing = [key for key in asked if key not in found.answers and key not in doubled]
    return found


def recorded_lines(path: Path, questions: Mapping[str, Question], asked: Sequence[str]) -> Recorded:
    """The answers in a file that a benchmark wrote (`answers.jsonl`), found by what was asked.

    Answers to parts that are not asked do not count; keys may have moved since.

    Raises:
        ValueError: lists the lines that are no answers.
    """
    parts = {one.part for one in questions.values()}
    lines = [(key, key.split("/")[0], answer) for key, answer in read_lines(path)]
    said = [((part, answer.get("asked")), key, answer) for key, part, answer in lines if part in parts]
    return matched(
        [(identity, {name: value for name, value in one.items() if name != "asked"}) for identity, _, one in said],
        {key: (one.part, one.fingerprint) for key, one in questions.items()},
        asked,
        {identity: key for identity, key, _ in said},
    )


def read_json(path: Path) -> Any:
    """A published file of predictions.

    Raises:
        ValueError: it does not exist, or is not JSON.
    """
    if not path.is_file():
        raise ValueError(f"the recorded predictions {path} do not exist")
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error})") from error
