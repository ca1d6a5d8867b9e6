"""Differences of a tuned run's scores from the base's, with paired intervals on the same questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.base.bootstrap import Intervals, Units, paired_intervals
from benchmarks.base.results import marks, number_at, shown
from benchmarks.report.runs import Tested


@dataclass(frozen=True, slots=True)
class Difference:
    """Difference of two runs on one benchmark.

    Attributes:
        scores: address -> the difference, in the results' own scale.
        intervals: address -> its paired interval; empty where `unpaired` says why.
    """

    scores: Mapping[str, float]
    intervals: Intervals

    def text(self, address: str, percent: bool) -> str:
        """The difference as text, "+3.0 (+1.0 to +5.0)"; a dash where a run lacks the number."""
        if address not in self.scores:
            return "-"
        ends = [_signed(address, end, percent) for end in self.intervals.get(address, ())]
        return _signed(address, self.scores[address], percent) + (f" ({' to '.join(ends)})" if ends else "")


def difference(base: Tested, tuned: Tested) -> Difference:
    """The tuned run's scores minus the base's, without those that the two measured in different ways."""
    marked = marks(base.about), marks(tuned.about)
    addresses = dict.fromkeys([*base.headlines, *tuned.headlines])
    scores = {}
    for address in addresses:
        before, after = number_at(base.results, address), number_at(tuned.results, address)
        # Equal marks: a proxy minus the published measure is no difference.
        if before is not None and after is not None and marked[0].get(address) == marked[1].get(address):
            scores[address] = after - before
    intervals: Intervals = {}
    if not unpaired(base, tuned):
        for first, second in zip(base.units["units"], tuned.units["units"], strict=True):
            ends = paired_intervals(Units.from_json(first), Units.from_json(second))
            # A score without a part, or a part with only one score, has an address of one name.
            intervals |= {address.strip("/"): pair for address, pair in ends.items()}
    return Difference(scores, intervals)


def unpaired(base: Tested, tuned: Tested) -> str:
    """Why two runs' units cannot be paired; "" = they can."""
    if not base.units or not tuned.units:
        return "results of an earlier version do not have each question's contribution"
    if base.units["asked"] != tuned.units["asked"]:
        return "they were asked other questions, or some were left out of one"
    shapes = [
        [(units["names"], {part: len(rows) for part, rows in units["hits"].items()}) for units in run.units["units"]]
        for run in (base, tuned)
    ]
    return "" if shapes[0] == shapes[1] else "they have other scores"


def _signed(address: str, value: float, percent: bool) -> str:
    """A number with its sign, also where it is 0."""
    text = shown(address, abs(value), percent)
    return f"{'-' if value < 0 else '+'}{text}"
