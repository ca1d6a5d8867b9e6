"""A tuned run against the base: the difference of every score, with a paired interval on the same questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.base.bootstrap import Intervals, Units, paired_intervals
from benchmarks.base.results import marks, number_at, shown
from benchmarks.report.runs import Tested


@dataclass(frozen=True, slots=True)
class Difference:
    """One run minus another on one benchmark.

    Attributes:
        scores: address -> the difference, in the results' own scale.
        intervals: address -> its paired interval; empty where `unpaired` says why.
    """

    scores: Mapping[str, float]
    intervals: Intervals

    def text(self, address: str, percent: bool) -> str:
        """How a difference reads: "+3.0 (+1.0 to +5.0)"; a dash where a run lacks the number."""
        if address not in self.scores:
            return "-"
        ends = [_signed(address, end, percent) for end in self.intervals.get(address, ())]
        return _signed(address, self.scores[address], percent) + (f" ({' to '.join(ends)})" if ends else "")


def difference(base: Tested, tuned: Tested) -> Difference:
    """The tuned run's scores minus the base's; those that the two measured in other ways are left out."""
    marked = marks(base.about), marks(tuned.about)
    addresses = dict.fromkeys([*base.headlines, *tuned.headlines])
    scores = {}
    for address in addresses:
        before, after = number_at(base.results, address), number_at(tuned.results, address)
        if before is not None and after is not None and marked[0].get(address) == marked[1].get(address):
            scores[address] = after - before
    found: Intervals = {}
    if not unpaired(base, tuned):
        for first, second in zip(base.units["units"], tuned.units["units"], strict=True):
            ends = paired_intervals(Units.from_json(first), Units.from_json(second))
            # A score without a part, or a part with one score alone, is addressed by the one name.
            found |= {address.strip("/"): one for address, one in ends.items()}
    return Difference(scores, found)


def unpaired(base: Tested, tuned: Tested) -> str:
    """Why two runs' units cannot be paired; "" = they can."""
    if not base.units or not tuned.units:
        return "results of an earlier version do not say what each question brought"
    if base.units["asked"] != tuned.units["asked"]:
        return "they were asked other questions, or some were left out of one"
    forms = [[(one["names"], {part: len(rows) for part, rows in one["hits"].items()}) for one in run.units["units"]]
             for run in (base, tuned)]  # fmt: skip
    return "" if forms[0] == forms[1] else "they have other scores"


def _signed(address: str, value: float, percent: bool) -> str:
    """With its sign, also where it is 0."""
    text = shown(address, abs(value), percent)
    return f"{'-' if value < 0 else '+'}{text}"
