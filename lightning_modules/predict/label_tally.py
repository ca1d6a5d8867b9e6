"""Counts of the labels that a judge gave in a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from datamodules.dense.rows import LabelRow
from datamodules.dense.segments import Verdict


@dataclass(slots=True)
class LabelTally:
    """Counts of a run's labels, and of the verdicts that they were made from.

    Attributes:
        pairs: pairs labelled.
        segments: labels.
        first: labels +1.
        second: labels -1.
        disagreements: ties because the judge named another video, or a tie, in the other order of showing.
        unparsed: replies without a verdict after all attempts; they count as ties.
        verdicts: replies with a verdict.
        shown_first: verdicts for the video that was shown first, whichever that was. A judge without a bias towards
            the order says so as often as it names the one shown second.
        shown_second: likewise.
    """

    pairs: int = 0
    segments: int = 0
    first: int = 0
    second: int = 0
    disagreements: int = 0
    unparsed: int = 0
    verdicts: int = 0
    shown_first: int = 0
    shown_second: int = 0

    def add(self, row: LabelRow, verdicts: Sequence[Verdict | None]) -> None:
        """Count a pair: its row, and the verdicts of its questions, None for an unread reply."""
        self.pairs += 1
        self.segments += len(row.labels)
        self.first += row.labels.count(1)
        self.second += row.labels.count(-1)
        self.unparsed += row.unparsed
        self.verdicts += len(verdicts) - row.unparsed
        self.shown_first += sum(verdict == "first" for verdict in verdicts)
        self.shown_second += sum(verdict == "second" for verdict in verdicts)
        # Two questions a segment, one in each order of showing.
        for label, verdict_pair in zip(row.labels, zip(verdicts[::2], verdicts[1::2], strict=True), strict=True):
            self.disagreements += label == 0 and None not in verdict_pair and verdict_pair != ("tie", "tie")

    def merged(self, other: LabelTally) -> LabelTally:
        """The sum of both, as of two ranks."""
        names = [count.name for count in fields(self)]
        return LabelTally(**{name: getattr(self, name) + getattr(other, name) for name in names})

    @property
    def unread(self) -> float:
        """The share of questions without a verdict after all attempts."""
        # No question yet: a share of 0, not a division by 0.
        return self.unparsed / max(self.unparsed + self.verdicts, 1)

    def __str__(self) -> str:
        ties = self.segments - self.first - self.second
        return (
            f"{self.pairs} pairs labelled in this run, {self.segments} labels: {self.first} for the first video, "
            f"{self.second} for the second, {ties} ties ({self.disagreements} because the orders of showing "
            f"disagree); {self.unparsed} of {self.verdicts + self.unparsed} replies could not be read and count as "
            f"ties; named was the video shown first {self.shown_first} times, the one shown second {self.shown_second}"
        )
