"""A study in its folder: its phases of stages, the choice of learning rates, its record and its command line."""

from __future__ import annotations

import argparse
import platform
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from rich.console import Console

from benchmarks.toy.commands import PRELOAD, ROOT, wide_console
from benchmarks.toy.rates import Tuning, at_edge, best_rates, extended
from callbacks.cli.recipes.runner import run_stages
from callbacks.cli.recipes.stage import Stage

#: Test seeds.
SEEDS = (0, 1, 2)
#: The record of a study, in its folder.
RECORD = "study.json"


class Makes(Protocol):
    """Maker of stages."""

    @property
    def output(self) -> Path:
        """The folder that they write to."""


Stages = TypeVar("Stages", bound=Makes)
Method = TypeVar("Method")
#: What a try of a learning rate gave.
Tried = TypeVar("Tried")


@dataclass(slots=True)
class Study(ABC, Generic[Stages, Method, Tried]):
    """A study in its folder, which goes on where an earlier run was interrupted.

    Attributes:
        make: maker of the stages.
        jobs: stages that run side by side.
        console: what is printed on.
        seconds: stage name -> how long it took.
        commands: stage name -> its command.
    """

    make: Stages
    jobs: int = 2
    console: Console = field(default_factory=wide_console)
    seconds: dict[str, float] = field(default_factory=dict)
    commands: dict[str, str] = field(default_factory=dict)

    def run(self, stages: Sequence[Stage], title: str) -> None:
        """Run the stages of a phase."""
        self.console.rule(title)
        self.commands |= {stage.name: stage.line for stage in stages}
        output, console = self.make.output, self.console
        self.seconds |= run_stages(stages, output, jobs=self.jobs, folder=ROOT, console=console, preload=PRELOAD)

    def tuned(self, methods: Mapping[str, Method], grid: Sequence[float]) -> Tuning[Tried]:
        """Choose each method's learning rate; all are tried at all rates of one grid, which grows for all of them.

        Args:
            methods: those that take no other method's rate.
            grid: the rates of the first round, ascending.
        """
        while True:
            tries = self.tries(methods, grid)
            best = best_rates(
                {name: {rate: self.criterion(tried) for rate, tried in rates.items()} for name, rates in tries.items()}
            )
            longer = extended(grid, best)
            if longer == tuple(grid):
                return Tuning(best, grid, tries)
            self.console.print(f"best at the grid's edge: {', '.join(at_edge(grid, best))}; it grows for every method")
            grid = longer

    @abstractmethod
    def tries(self, methods: Mapping[str, Method], grid: Sequence[float]) -> Mapping[str, Mapping[float, Tried]]:
        """Fit and measure every method at every rate on the validation seed: method -> rate -> what it gave."""

    @abstractmethod
    def criterion(self, tried: Tried) -> float:
        """The number of a try by which rates are chosen; the highest is the best."""

    def timed(self, started: float) -> dict[str, Any]:
        """What a record says of its commands and times, which it prints.

        Args:
            started: when this run began, as `time.time`.
        """
        total, elapsed = sum(self.seconds.values()), time.time() - started
        minutes = {"stages, one after the other": round(total / 60, 1)}
        # With more, an earlier run did some of them, and the time of this one says little.
        if total <= self.jobs * elapsed:
            minutes["this run"] = round(elapsed / 60, 1)
        self.console.print(f"minutes: {', '.join(f'{name} {value:g}' for name, value in minutes.items())}")
        return {
            "commands": self.commands,
            "seconds": {name: round(seconds, 1) for name, seconds in self.seconds.items()},
            "minutes": minutes,
        }


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of the packages that the numbers depend on, beside the code."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("torch", "numpy", *packages)}}


def study_options(
    module: str, description: str, output: str, rows: Iterable[str], argv: Sequence[str] | None
) -> argparse.Namespace:
    """The options of a study's command line: ``output``, ``seeds``, ``jobs``, and ``rows`` or ``quick``."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(output), help="the study's folder; it goes on")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="of data, noise and training")
    parser.add_argument("--jobs", type=int, default=2, help="stages that run side by side (2), one thread each")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--rows", choices=sorted(rows), help="an ablation or open question instead of the core table")
    what.add_argument("--quick", action="store_true", help="the conditions, and every kind of stage once")
    return parser.parse_args(argv)
