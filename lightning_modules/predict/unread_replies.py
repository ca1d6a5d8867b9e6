"""Count of a judge's replies that cannot be read: a run stops before it has paid for many that say nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence

from lightning.pytorch.utilities import rank_zero_only

from lightning_modules.judges.base import JudgeQuestion, JudgeStoppedError

#: Unread replies in a row after which a run stops: before any reply was read, and later.
FIRST_LIMIT, LATER_LIMIT = 12, 50
#: How often the share of unread replies is printed.
SECONDS_BETWEEN_LINES = 30.0
_EXAMPLES = 3
_EXAMPLE_LENGTH = 160


class UnreadReplies:
    """Counter of one process's replies, and of those that cannot be read.

    Args:
        consequence: what becomes of unread replies, for the message of a run that stops.
        remedy: what to change then.

    Attributes:
        replies: replies so far, repeated attempts included.
        unread: those that cannot be read.
    """

    def __init__(self, consequence: str, remedy: str) -> None:
        self.consequence = consequence
        self.remedy = remedy
        self.replies = self.unread = 0
        self._next_line = 0.0
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
                f"{self._in_a_row} of the judge's replies in a row could not be read, and {self.consequence}; "
                "three of them:\n  " + "\n  ".join(self._examples) + f"\n{self.remedy}"
            )

    @rank_zero_only
    def print_now_and_then(self) -> None:
        """Print the share of unread replies, on rank 0 and not more often than every `SECONDS_BETWEEN_LINES`."""
        if time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
            print(self)
