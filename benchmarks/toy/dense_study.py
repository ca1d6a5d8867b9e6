"""The study's phases: pairs and conditions, learning rates, test seeds; each may depend on what came out before."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.toy.commands import ROOT
from benchmarks.toy.dense_methods import BASE, LABELS, MATCHED, SECONDS, DenseStages, Method
from benchmarks.toy.motion_conditions import (
    MARGIN,
    Condition,
    conditions_table,
    decided_shares,
    motion_conditions,
)
from benchmarks.toy.motion_scores import MotionScores, score_folder, wide_console
from benchmarks.toy.pair_measures import PairMeasures
from benchmarks.toy.rates import GRID, VALIDATION_SEED, at_edge, best_rates, extended
from callbacks.cli.recipes.runner import run_stages
from callbacks.cli.recipes.stage import Stage
from datamodules.dense.pair_labels import LabelFilter, join_labels
from datamodules.shards.index import Index

#: Margins of the judge at which the shares of decided pairs are shown.
MARGINS = (MARGIN, 2 * MARGIN, 4 * MARGIN)

#: Numbers of one seed, see `MotionScores.numbers`.
Numbers = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Tuning:
    """Choice of learning rates.

    Attributes:
        best: method -> its rate.
        grid: the rates that every method was tried at.
        tries: method -> rate -> the numbers on the validation seed.
    """

    best: Mapping[str, float]
    grid: Sequence[float]
    tries: Mapping[str, Mapping[float, Numbers]]

    def json(self) -> dict[str, object]:
        """Every try, for the record."""
        tries = {name: {f"{rate:g}": dict(at) for rate, at in rates.items()} for name, rates in self.tries.items()}
        return {"best": dict(self.best), "grid": list(self.grid), "at_edge": self.at_edge, "tries": tries}

    @property
    def at_edge(self) -> list[str]:
        """Methods whose best rate is the lowest or highest of the grid."""
        return at_edge(self.grid, self.best)


@dataclass(slots=True)
class DenseStudy:
    """A study in its folder, which goes on where an earlier run was interrupted.

    Attributes:
        make: maker of the stages.
        jobs: stages that run side by side.
        console: what is printed on.
        seconds: stage name -> how long it took.
        commands: stage name -> its command.
    """

    make: DenseStages
    jobs: int = 2
    console: Console = field(default_factory=wide_console)
    seconds: dict[str, float] = field(default_factory=dict)
    commands: dict[str, str] = field(default_factory=dict)
    _scores: dict[Path, MotionScores] = field(default_factory=dict)

    def run(self, stages: Sequence[Stage], title: str) -> None:
        """Run the stages of a phase."""
        self.console.rule(title)
        self.commands |= {stage.name: stage.line for stage in stages}
        self.seconds |= run_stages(stages, self.make.output, jobs=self.jobs, folder=ROOT, console=self.console)

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

    def tuned(self, methods: Mapping[str, Method], grid: Sequence[float] = GRID) -> Tuning:
        """Choose each method's learning rate; all are tried at all rates of one grid, which grows for all of them."""
        seed = VALIDATION_SEED
        while True:
            stages = self.make.runs(methods, dict.fromkeys(methods, grid), [seed])
            self.run(stages, f"Learning rates: {', '.join(f'{rate:g}' for rate in grid)}")
            tries = {
                name: {rate: self.numbers(name, method, seed, rate) for rate in grid}
                for name, method in methods.items()
            }
            best = best_rates(
                {name: {rate: at["quality"] or 0.0 for rate, at in tries[name].items()} for name in tries}
            )
            longer = extended(grid, best)
            if longer == tuple(grid):
                return Tuning(best, grid, tries)
            self.console.print(f"best at the grid's edge: {', '.join(at_edge(grid, best))}; it grows for every method")
            grid = longer

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
        base = self._score(self.make.samples(BASE, seed, None, seconds))
        return self._score(self.make.samples(name, seed, rate, seconds)).numbers(base)

    def pairs_used(self, method: Method, seed: int) -> int:
        """How many pairs a method trains on."""
        index = Index.read(self.make.pairs_index(method.pairs))
        if not method.labels:
            return len(index)
        whole = method.labels == MATCHED or LABELS[method.labels].granularity == "whole"
        labels = Index.read(self.make.labels_index(method.pairs, method.labels))
        label_filter = LabelFilter(None if whole else 0.2, whole, method.share, method.flip, seed)
        return len(join_labels([index], [labels]).take(label_filter).labels)

    def _score(self, folder: Path) -> MotionScores:
        if folder not in self._scores:
            self._scores[folder] = score_folder(folder)
        return self._scores[folder]


def versions() -> dict[str, str]:
    """What the numbers depend on beside the code."""
    packages = {name: version(name) for name in ("torch", "diffusers", "lightning", "peft", "numpy")}
    return {"python": platform.python_version(), **packages}
