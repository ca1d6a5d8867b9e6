"""A judge that repeats the replies of another one, and the file that it reads."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.video.containers import require_regular
from lightning_modules.judges.base import Judge, JudgeQuestion


class RecordedJudge(Judge):
    """Judge that repeats the replies in a JSONL file.

    One object a line: {"key", "segment", "shown_first", "attempt", "reply"}. `ReplyLog` writes such files. All but
    "key" and "reply" may be left out: null and attempt 0. Of several lines on one question the last counts.

    Args:
        replies: the file.
        name: of the judge that gave them; None = "recorded:" and the file's name.
    """

    def __init__(self, replies: str, name: str | None = None) -> None:
        self.path = Path(replies)
        self._name = name or f"recorded:{self.path.name}"
        self._replies: dict[tuple[Any, ...], str] | None = None

    @property
    def name(self) -> str:
        """Who judges."""
        return self._name

    def check(self) -> None:
        """Read the file.

        Raises:
            ValueError: it is not there, or faulty.
        """
        self._replies = read_replies(self.path)

    def ask(self, questions: Sequence[JudgeQuestion]) -> list[str]:
        """The recorded replies.

        Raises:
            ValueError: the file is faulty, or lacks replies to some of the questions.
        """
        if self._replies is None:
            self._replies = read_replies(self.path)
        lacking = [question for question in questions if _place(question) not in self._replies]
        if lacking:
            raise ValueError(
                f"{self.path} lacks {len(lacking)} of {len(questions)} replies, the first is to key "
                f"{lacking[0].place}, attempt {lacking[0].attempt}; record them with the judge that was asked before"
            )
        return [self._replies[_place(question)] for question in questions]


class ReplyLog:
    """Log of replies: appends them to a JSONL file that `RecordedJudge` reads; several processes may share the file.

    A reply that the file had when this run began is not written once more: a run that goes on after a kill asks again
    about the pairs whose labels were lost, and a judge that keeps its replies gives the same ones.

    Args:
        path: the file; its folder is made if need be.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._written: dict[tuple[Any, ...], str] = {}

    def check(self) -> None:
        """Open the file for appending and read what is in it, so that the first reply is not the first to fail.

        Raises:
            ValueError: it cannot be written, or holds lines that are no replies, to which no more are appended.
        """
        try:
            if self.path.exists():
                require_regular(self.path)
            # Opening it for reading would not show that the folder, or the file, cannot be written.
            self._append(b"")
            self._written = read_replies(self.path) if self.path.stat().st_size else {}
        except OSError as error:
            raise ValueError(
                f"model.replies: {self.path} cannot be written and read ({error.strerror or error}); give another file"
            ) from error
        except ValueError as error:
            raise ValueError(f"model.replies: {error}\nTake these lines out, or give another file") from error

    def write(self, questions: Sequence[JudgeQuestion], replies: Sequence[str]) -> None:
        """Append one line a reply, all of them in one write; but for those that the file had before."""
        lines = [
            {
                "key": question.key,
                "segment": question.segment,
                "shown_first": question.shown_first,
                "attempt": question.attempt,
                "reply": reply,
            }
            for question, reply in zip(questions, replies, strict=True)
            if self._written.get(_place(question)) != reply
        ]
        self._append("".join(json.dumps(line) + "\n" for line in lines).encode())

    def _append(self, content: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # One write in append mode: lines of several processes do not mix.
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, content)
        finally:
            os.close(file)


def read_replies(path: Path) -> dict[tuple[Any, ...], str]:
    """(key, segment, shown_first, attempt) -> reply, from a file that `ReplyLog` wrote.

    Raises:
        ValueError: no such file, or lists every line that is no reply.
    """
    try:
        require_regular(path)
        # Not splitlines: JSON may hold other ends of lines, as U+2028, within a text.
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file of replies") from error
    replies: dict[tuple[Any, ...], str] = {}
    faults: list[str] = []
    for line_number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
        except ValueError as error:
            faults.append(f"line {line_number} is not JSON ({error})")
            continue
        if not (isinstance(data, Mapping) and isinstance(data.get("key"), str) and isinstance(data.get("reply"), str)):
            faults.append(f'line {line_number} lacks "key" or "reply"')
            continue
        replies[data["key"], data.get("segment"), data.get("shown_first"), data.get("attempt", 0)] = data["reply"]
    if faults:
        raise ValueError("\n".join(f"{path}: {fault}" for fault in faults))
    return replies


def _place(question: JudgeQuestion) -> tuple[Any, ...]:
    return question.key, question.segment, question.shown_first, question.attempt
