"""Count of a judge's replies that cannot be read: a run stops before it has paid for labels that say nothing."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_modules.judges.base import JudgeQuestion, JudgeStoppedError

#: Unread replies in a row after which a run stops: before any reply was read, and later.
FIRST_LIMIT, LATER_LIMIT = 12, 50
_EXAMPLES = 3
_EXAMPLE_LENGTH = 160


class UnreadReplies:
    """Counter of one process's replies, and of those without a verdict.

    Attributes:
        replies: replies so far, repeated attempts included.
        unread: those without a verdict.
    """

    def __init__(self) -> None:
        self.replies = self.unread = 0
        self._in_a_row = 0
        self._examples: list[str] = []

    def __str__(self) -> str:
        share = self.unread / max(self.replies, 1)
        return f"{self.unread} of the judge's {self.replies} replies so far could not be read ({share:.1%})"

    @property
    def _limit(self) -> int:
        return LATER_LIMIT if self.replies > self.unread else FIRST_LIMIT

    def portion(self, attempts: int) -> int | None:
        """How many questions to ask next, each up to `attempts` times; None = any number.

        While nothing can be read few are asked at once: what is asked in one go is also paid in one go.
        """
        if self.replies > self.unread and not self._in_a_row:
            return None
        return max((self._limit - self._in_a_row) // attempts, 1)

    def add(self, questions: Sequence[JudgeQuestion], replies: Sequence[str], unread: Sequence[bool]) -> None:
        """Count replies, in the order in which they were asked for.

        Raises:
            JudgeStoppedError: too many in a row could not be read; shows three of them.
        """
        for question, reply, cannot_read in zip(questions, replies, unread, strict=True):
            self.replies += 1
            if not cannot_read:
                self._in_a_row, self._examples = 0, []
                continue
            self.unread += 1
            self._in_a_row += 1
            if len(self._examples) < _EXAMPLES:
                # The end of a reply, where a verdict would be.
                end = reply if len(reply) <= _EXAMPLE_LENGTH else f"...{reply[-_EXAMPLE_LENGTH:]}"
                self._examples.append(f"{question.place}: {end!r}")
        if self._in_a_row >= self._limit:
            raise JudgeStoppedError(
                f"{self._in_a_row} of the judge's replies in a row could not be read, and ties would take their place; "
                "three of them:\n  " + "\n  ".join(self._examples) + "\nChange the judge or model.instructions (they "
                'end with the form of an answer, {"verdict": "first"}), give the judge more tokens where replies are '
                "cut short, and label again into another folder"
            )
