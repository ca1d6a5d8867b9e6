"""The weight of each named loss term by a schedule in optimizer steps."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from datamodules.vista.batches import VistaBatch
from lightning_modules.logged import as_logged
from lightning_modules.preference import PreferenceModule

#: Terms by their names in version 0.1.0 -> their names now.
FORMER_TERMS = {"temporal": "clip"}


class Schedule(ABC):
    """A weight as a function of the global step."""

    @abstractmethod
    def at(self, step: int) -> float:
        """The weight while optimizer step number `step` (from 0) is computed."""

    @abstractmethod
    def peak(self) -> float:
        """The largest weight it ever gives; a term whose peak is 0 gets no views."""

    @abstractmethod
    def describe(self) -> list[float]:
        """The arguments as plain numbers, for checkpoints."""


class Constant(Schedule):
    """The same weight at every step.

    Args:
        value: the weight, at least 0.
    """

    def __init__(self, value: float) -> None:
        self.value = _weight(value)

    def at(self, step: int) -> float:
        """The value, whatever the step."""
        return self.value

    def peak(self) -> float:
        """The value."""
        return self.value

    def describe(self) -> list[float]:
        """[value]."""
        return [self.value]


class Linear(Schedule):
    """`start` until step `begin`, then a straight line to `end` over `steps` steps, then `end`.

    Args:
        start: weight at the beginning, at least 0.
        end: weight from step `begin + steps` on, at least 0.
        steps: length of the change in optimizer steps, at least 1.
        begin: the step at which the change begins.
    """

    def __init__(self, start: float, end: float, steps: int, begin: int = 0) -> None:
        if steps < 1 or begin < 0:
            raise ValueError(f"steps is {steps} and begin is {begin}; give at least 1 step, beginning at 0 or later")
        self.start, self.end, self.steps, self.begin = _weight(start), _weight(end), steps, begin

    def at(self, step: int) -> float:
        """The point of the line at `step`."""
        progress = min(1.0, max(0.0, (step - self.begin) / self.steps))
        return self.start + (self.end - self.start) * self.shape(progress)

    def shape(self, done: float) -> float:
        """How much of the change has happened when the share `done` of its steps is over."""
        return done

    def peak(self) -> float:
        """The larger end."""
        return max(self.start, self.end)

    def describe(self) -> list[float]:
        """[start, end, steps, begin]."""
        return [self.start, self.end, self.steps, self.begin]


class Cosine(Linear):
    """As `Linear`, along half a cosine wave: slow at both ends, fastest in the middle.

    Args:
        start: weight at the beginning, at least 0.
        end: weight from step `begin + steps` on, at least 0.
        steps: length of the change in optimizer steps, at least 1.
        begin: the step at which the change begins.
    """

    def shape(self, done: float) -> float:
        """Half a cosine wave from 0 to 1."""
        return 0.5 * (1.0 - math.cos(math.pi * done))


class Piecewise(Schedule):
    """Straight lines between given points; before the first and after the last the weight stays.

    Args:
        points: (step, weight) pairs with rising steps. For a jump, give two neighbouring steps.
    """

    def __init__(self, points: list[tuple[int, float]]) -> None:
        steps = [step for step, _ in points]
        if not points or steps != sorted(set(steps)):
            raise ValueError(f"the points are at steps {steps}; give at least one point, steps rising")
        self.points = [(int(step), _weight(value)) for step, value in points]

    def at(self, step: int) -> float:
        """The point of the line at `step`."""
        if step <= self.points[0][0]:
            return self.points[0][1]
        for (left, low), (right, high) in zip(self.points, self.points[1:], strict=False):
            if step <= right:
                return low + (high - low) * (step - left) / (right - left)
        return self.points[-1][1]

    def peak(self) -> float:
        """The largest of the points' weights."""
        return max(value for _, value in self.points)

    def describe(self) -> list[float]:
        """[step, weight, step, weight, ...]."""
        return [value for point in self.points for value in point]


def _weight(value: float) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"a term's weight is {value}; give a finite number that is at least 0")
    return float(value)


class LossWeights(Callback):
    """Schedule of the weights of named loss terms by the global step; logs the weight of every term.

    A term without a schedule keeps the weight that the method was given. A term whose schedule rises above 0 later is
    in use from the start, so that its views are made, its denominators counted and its loss logged.
    Logs `train/weight/<term>`. A checkpoint holds the weights in force, so that `validate` on it weighs as training
    did, and the schedules, so that a resume with other ones says so; the configured ones win.

    Args:
        schedules: term name -> schedule.
    """

    def __init__(self, schedules: dict[str, Schedule] | None = None) -> None:
        self.schedules = schedules or {}
        self._restored: dict[str, float] = {}
        self._weights: dict[str, float] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check the names and say which terms will be in use.

        Raises:
            ValueError: a schedule for a term that the method does not have.
        """
        module = _with_terms(pl_module)
        unknown = sorted(set(self.schedules) - set(module.weights))
        if unknown:
            raise ValueError(
                f"LossWeights has schedules for {unknown}, which {type(module).__name__} does not have; "
                f"its terms are {sorted(module.weights)}"
                + "".join(f"; {name!r} is now {FORMER_TERMS[name]!r}" for name in unknown if name in FORMER_TERMS)
            )
        module.scheduled |= {name for name, schedule in self.schedules.items() if schedule.peak() > 0}
        self._apply(module, trainer.global_step)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: VistaBatch, batch_idx: int
    ) -> None:
        """Set and log the weights of this step; alike for all micro-batches of one optimizer step."""
        module = _with_terms(pl_module)
        self._apply(module, trainer.global_step)
        module.log_dict(as_logged({f"train/weight/{name}": value for name, value in module.weights.items()}))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Weigh `val/loss` as the checkpoint did, when one is validated outside training."""
        if trainer.state.fn != TrainerFn.FITTING:
            _with_terms(pl_module).weights.update(self._restored)

    def state_dict(self) -> dict[str, Any]:
        """The weights in force and the schedules, as plain types."""
        described = {name: [type(schedule).__name__, *schedule.describe()] for name, schedule in self.schedules.items()}
        return {"weights": dict(self._weights), "schedules": described}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the weights, and warn where the schedules are other ones now."""
        # Not the terms that the method no longer has; validation applies the others, training its own schedules.
        self._restored = {name: value for name, value in state_dict["weights"].items() if name in self._weights}
        if state_dict["schedules"] != self.state_dict()["schedules"]:
            rank_zero_warn(
                f"LossWeights: the checkpoint was written with the schedules {state_dict['schedules']}; "
                "the run goes on with the configured ones"
            )

    def _apply(self, module: PreferenceModule, step: int) -> None:
        for name, schedule in self.schedules.items():
            module.weights[name] = schedule.at(step)
        self._weights = dict(module.weights)


def _with_terms(module: LightningModule) -> PreferenceModule:
    assert isinstance(module, PreferenceModule), "LossWeights is for methods with named terms"
    return module
