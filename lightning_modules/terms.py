"""A named part of a method's loss."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Self

from torch import Tensor


@dataclass(slots=True)
class Term:
    """One named part of the loss, before it is averaged and weighted.

    Attributes:
        values: (n,) float32, one loss for each item that takes part: a sample, a pair, a frame, as the method has it.
        samples: the position in the batch of the sample that each value comes from.
        chosen_rewards: (n,) implicit rewards in nats, already scaled by beta, or None for a term without a preference.
        rejected_rewards: likewise, of the other side.
        draw: what two equal rewards count in the accuracy: 0 as TRL has it, 0.5 as diffusion's DPO has it.
    """

    values: Tensor
    samples: list[int]
    chosen_rewards: Tensor | None = None
    rejected_rewards: Tensor | None = None
    draw: float = 0.0

    def detach(self) -> Self:
        """The same numbers without their graph, for callbacks."""
        # By the fields of the class at hand: a method's own term has more of them.
        tensors: dict[str, Any] = {
            item.name: value.detach() for item in fields(self) if isinstance(value := getattr(self, item.name), Tensor)
        }
        return replace(self, **tensors)
