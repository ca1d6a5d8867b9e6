"""The study's phases: pairs and conditions, learning rates, test seeds; each may depend on what came out before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.toy.dense.conditions import (
    MARGIN,
    Condition,
    conditions_table,
    decided_shares,
    motion_conditions,
)
from benchmarks.toy.dense.methods import BASE, LABELS, MATCHED, SECONDS, Method
from benchmarks.toy.dense.pair_measures import PairMeasures
from benchmarks.toy.dense.scores import MotionScores
from benchmarks.toy.dense.stages import DenseStages
from benchmarks.toy.rates import VALIDATION_SEED
from benchmarks.toy.study import Study
from datamodules.dense.pair_labels import LabelFilter, join_labels
from datamodules.shards.index import Index

#: The rates that every method is tried at first.
GRID = (3e-5, 1e-4, 3e-4)
CRITERION = "the highest mean judged quality over the videos of the validation seed"
#: Packages that the numbers depend on, beside the code.
PACKAGES = ("diffusers", "lightning", "peft")
#: Margins of the judge at which the shares of decided pairs are shown.
MARGINS = (MARGIN, 2 * MARGIN, 4 * MARGIN)

#: Numbers of one seed, see `MotionScores.numbers`.
Numbers = Mapping[str, float | None]


@dataclass(slots=True)
class DenseStudy(Study[DenseStages, Method, Numbers]):
    """DenseDPO's study: pairs and conditions, learning rates by the judged quality, test seeds."""

    def conditions(self, independent: str, guided: str) -> list[Condition]:
        """The conditions of two kinds of pairs, printed; what follows from them is the caller's matter."""
        measures = [PairMeasures.read(self.make.measures(name)) for name in (independent, guided)]
        conditions = motion_conditions(measures[0], measures[1])
        conditions_table(conditions).show(self.console)
        return conditions

    def margins(self, guided: str) -> dict[str, tuple[float, float, float]]:
        """What C5's shares are at several margins of the judge."""
        measures = PairMeasures.read(self.make.measures(guided))
        return {f"{margin:g}": decided_shares(measures, margin) for margin in MARGINS}

    def tries(self, methods: Mapping[str, Method], grid: Sequence[float]) -> dict[str, dict[float, Numbers]]:
        """See `Study.tries`."""
        seed = VALIDATION_SEED
        stages = self.make.runs(methods, dict.fromkeys(methods, grid), [seed])
        self.run(stages, f"Learning rates: {', '.join(f'{rate:g}' for rate in grid)}")
        return {
            name: {rate: dict(self.numbers(name, method, seed, rate)) for rate in grid}
            for name, method in methods.items()
        }

    def criterion(self, tried: Numbers) -> float:
        """Judged quality."""
        return tried["quality"] or 0.0

    def tested(
        self, methods: Mapping[str, Method], rates: Mapping[str, float], seeds: Sequence[int]
    ) -> dict[str, list[Numbers]]:
        """Fit and sample every method on the test seeds: method -> the numbers of each seed."""
        stages = self.make.runs(methods, {name: [rates[name]] for name in methods}, seeds)
        self.run(stages, f"Test seeds {', '.join(map(str, seeds))}")
        return {
            name: [self.numbers(name, method, seed, rates[name]) for seed in seeds] for name, method in methods.items()
        }

    def record(
        self, methods: Mapping[str, Method], rates: Mapping[str, float], seeds: Sequence[int]
    ) -> dict[str, dict[str, Any]]:
        """`tested`, as it is stored: run -> its learning rate, the pairs it trained on and its numbers, of each seed.

        The base model is a run, too, one for each length of video.
        """
        runs: dict[str, dict[str, Any]] = {}
        for name, numbers in self.tested(methods, rates, seeds).items():
            method = methods[name]
            pairs = [self.pairs_used(method, seed) for seed in seeds]
            seconds = self.make.seconds(method)
            base = BASE if seconds == SECONDS else f"{BASE}-{seconds}s"
            runs.setdefault(
                base,
                {
                    "title": f"the base model{'' if seconds == SECONDS else f', {seconds} s'}",
                    "rate": None,
                    "pairs": [],
                    "seeds": [dict(self.numbers(BASE, None, seed, None, seconds)) for seed in seeds],
                },
            )
            runs[name] = {
                "title": method.title,
                "base": base,
                "rate": rates[name],
                "pairs": pairs,
                "seeds": [dict(seed_numbers) for seed_numbers in numbers],
            }
        return runs

    def numbers(
        self, name: str, method: Method | None, seed: int, rate: float | None, seconds: int = SECONDS
    ) -> Numbers:
        """The numbers of one run beside the base model's videos of the same prompts and noise."""
        seconds = seconds if method is None else self.make.seconds(method)
        base = MotionScores.read(self.make.scores(BASE, seed, None, seconds))
        return MotionScores.read(self.make.scores(name, seed, rate, seconds)).numbers(base)

    def pairs_used(self, method: Method, seed: int) -> int:
        """How many pairs a method trains on."""
        index = Index.read(self.make.pairs_index(method.pairs))
        if not method.labels:
            return len(index)
        whole = method.labels == MATCHED or LABELS[method.labels].granularity == "whole"
        labels = Index.read(self.make.labels_index(method.pairs, method.labels))
        label_filter = LabelFilter(None if whole else 0.2, whole, method.share, method.flip, seed)
        return len(join_labels([index], [labels]).take(label_filter).labels)
