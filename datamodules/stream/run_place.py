"""How far a run is, by the samples it consumed: arithmetic, no input or output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from datamodules.stream.plan import TrainPlan


@dataclass(frozen=True, slots=True)
class RunPlace:
    """A moment of a run, in the trainer's epochs.

    Attributes:
        epoch: epochs that are over.
        batch: micro-batches of the epoch after them that are over.
        length: micro-batches of an epoch.
    """

    epoch: int
    batch: int
    length: int

    @classmethod
    def after(cls, consumed: int, plan: TrainPlan, limit: float) -> Self:
        """Where a run with this plan is after a number of samples.

        Args:
            consumed: samples, over all ranks and epochs.
            plan: with the batches of this run, which need not be those in which the samples were read.
            limit: the trainer's limit on an epoch, see `limited`.
        """
        # The trainer's epoch also ends with the data, however high the limit.
        length = min(limited(plan, limit), len(plan))
        epoch, samples = divmod(consumed, length * plan.global_batch)
        # Whole optimizer steps only: a batch counter within one would end the trainer's next step too early.
        return cls(epoch, samples // plan.step_samples * plan.accumulation, length)

    @property
    def total(self) -> int:
        """Micro-batches since the first epoch began."""
        return self.epoch * self.length + self.batch


def limited(plan: TrainPlan, limit: float) -> int:
    """Micro-batches that a limit allows in an epoch, which may be more than there are; a float is a share of them."""
    return limit if isinstance(limit, int) else int(limit * len(plan))


def at_a_step(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state moved back to the end of its last optimizer step: no checkpoint holds the gradients of a begun one."""
    begun = (state["consumed"] - state["origin"]) % state["step_samples"]
    return {**state, "consumed": state["consumed"] - begun}
