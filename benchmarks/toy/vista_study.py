"""Phases of the study of VistaDPO: conditions, learning rates, test seeds; each may depend on what came out before."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from rich.console import Console

from benchmarks.toy.commands import ROOT
from benchmarks.toy.motion_scores import wide_console
from benchmarks.toy.rates import VALIDATION_SEED, at_edge, best_rates, extended
from benchmarks.toy.vista_conditions import Condition, read_conditions, table
from benchmarks.toy.vista_methods import BASE, Method, VistaStages
from callbacks.cli.recipes.runner import run_stages
from callbacks.cli.recipes.stage import Stage

#: The rates that every method is tried at first.
GRID = (3e-4, 1e-3, 3e-3)
CRITERION = "the highest accuracy of stated facts over all test videos of the validation seed"

#: Measures of one run.
Scores = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Tuning:
    """Choice of learning rates.

    Attributes:
        best: method -> its rate.
        grid: the rates that every method was tried at.
        tries: method -> rate -> the accuracy of stated facts.
    """

    best: Mapping[str, float]
    grid: Sequence[float]
    tries: Mapping[str, Mapping[float, float]]

    def json(self) -> dict[str, Any]:
        """Every try, for the record."""
        tries = {name: {f"{rate:g}": value for rate, value in rates.items()} for name, rates in self.tries.items()}
        edge = at_edge(self.grid, self.best)
        return {"best": dict(self.best), "grid": list(self.grid), "at_edge": edge, "tries": tries}


@dataclass(slots=True)
class VistaStudy:
    """A study in its folder, which goes on where an earlier run was interrupted.

    Attributes:
        make: maker of the stages.
        jobs: stages that run side by side.
        console: what is printed on.
        seconds: stage name -> how long it took.
        commands: stage name -> its command.
    """

    make: VistaStages
    jobs: int = 2
    console: Console = field(default_factory=wide_console)
    seconds: dict[str, float] = field(default_factory=dict)
    commands: dict[str, str] = field(default_factory=dict)

    def run(self, stages: Sequence[Stage], title: str) -> None:
        """Run the stages of a phase."""
        self.console.rule(title)
        self.commands |= {stage.name: stage.line for stage in stages}
        self.seconds |= run_stages(stages, self.make.output, jobs=self.jobs, folder=ROOT, console=self.console)

    def conditions(self) -> list[Condition]:
        """The conditions of the base model, printed; what follows from them is the caller's matter."""
        self.run([self.make.conditions()], "Conditions")
        found = read_conditions(self.make.output / "conditions.json")
        self.console.print(table(found), markup=False)
        return found

    def tuned(self, methods: Mapping[str, Method], grid: Sequence[float] = GRID) -> Tuning:
        """Choose each method's learning rate; all are tried at all rates of one grid, which grows for all of them.

        Args:
            methods: those that take no other method's rate.
            grid: the rates of the first round, ascending.
        """
        seed = VALIDATION_SEED
        while True:
            stages = [*self.make.prepared(methods, [seed])]
            for rate in grid:
                for name, method in methods.items():
                    stages.append(self.make.fit(name, method, seed, rate))
                    stages.append(self.make.measure(name, method, seed, rate, criterion=True))
            self.run(stages, f"Learning rates: {', '.join(f'{rate:g}' for rate in grid)}")
            tries = {name: {rate: self.scores(name, seed, rate)["stated"] for rate in grid} for name in methods}
            best = best_rates(tries)
            longer = extended(grid, best)
            if longer == tuple(grid):
                return Tuning(best, grid, tries)
            self.console.print(f"best at the grid's edge: {', '.join(at_edge(grid, best))}; it grows for every method")
            grid = longer

    def tested(
        self,
        methods: Mapping[str, Method],
        rates: Mapping[str, float],
        seeds: Sequence[int],
        base: Method | None = None,
    ) -> dict[str, list[Scores]]:
        """Fit and measure every method on the test seeds.

        Args:
            methods: name -> method.
            rates: name -> learning rate.
            seeds: of data, negatives and training.
            base: which videos the base model is measured on beside them; None = it is not.

        Returns:
            name -> the scores of each seed; the base model's under `BASE`.
        """
        measured = methods if base is None else {BASE: base, **methods}
        stages = [*self.make.prepared(measured, seeds), *self.make.based(measured)]
        for seed in seeds:
            for name, method in measured.items():
                rate = rates.get(name)
                if rate is not None and not method.fit_of:
                    stages.append(self.make.fit(name, method, seed, rate))
                stages.append(self.make.measure(name, method, seed, rate))
        self.run(stages, f"Test seeds {', '.join(map(str, seeds))}")
        return {name: [self.scores(name, seed, rates.get(name)) for seed in seeds] for name in measured}

    def scores(self, name: str, seed: int, rate: float | None) -> Scores:
        """The measures of one run, which is done."""
        scores: Scores = json.loads(self.make.scores(name, seed, rate).read_text(encoding="utf-8"))
        return scores


def versions() -> dict[str, str]:
    """What the numbers depend on beside the code."""
    packages = {name: version(name) for name in ("torch", "transformers", "lightning", "peft", "numpy")}
    return {"python": platform.python_version(), **packages}
