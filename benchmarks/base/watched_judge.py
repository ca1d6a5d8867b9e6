"""A benchmark's judge whose replies are counted: it is asked no more when none of them can be read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import device

from lightning_modules.judges.base import Judge, JudgeQuestion, Workload
from lightning_modules.predict.unread_replies import UnreadReplies


class WatchedJudge(Judge):
    """Judge that stops after too many replies in a row that cannot be read: 12 before any could, 50 later.

    While it is asked, the share of unread replies is printed now and then.

    Args:
        judge: who is asked.
        readable: whether a reply says what the benchmark asks for.
    """

    def __init__(self, judge: Judge, readable: Callable[[str], bool]) -> None:
        self._judge = judge
        self._readable = readable
        self.unread = UnreadReplies(
            "scores of them would say nothing",
            "Change the judge, or give it more tokens where replies are cut short, and test again into another "
            "model.output; the answers that were judged before are kept",
        )

    @property
    def name(self) -> str:
        """The judge's."""
        return self._judge.name

    def ask(self, questions: Sequence[JudgeQuestion]) -> list[str]:
        """The replies, in order.

        Raises:
            JudgeStoppedError: too many in a row could not be read; or the judge gives no more.
        """
        replies: list[str] = []
        while len(replies) < len(questions):
            # In portions: a judge whose replies say nothing is noticed before all of them are paid for.
            portion = self.unread.portion(attempts=1)
            portion_questions = questions[len(replies) :][:portion]
            portion_replies = self._judge.ask(portion_questions)
            replies += portion_replies
            self.unread.add(
                portion_questions, portion_replies, [not self._readable(reply) for reply in portion_replies]
            )
        if questions:
            self.unread.print_now_and_then()
        return replies

    def settings(self) -> dict[str, Any]:
        """The judge's."""
        return self._judge.settings()

    def check(self) -> None:
        """The judge's."""
        self._judge.check()

    def load(self, device: device) -> None:
        """Load the judge's weights."""
        self._judge.load(device)

    def estimate(self, work: Workload) -> str:
        """The judge's."""
        return self._judge.estimate(work)

    def summary(self) -> str:
        """The judge's."""
        return self._judge.summary()
