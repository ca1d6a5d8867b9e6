"""What every way to a reference's scores offers: `ReferenceModel` picks one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from lightning_modules.losses.log_probs import Head
from lightning_modules.preference import PreferenceModule

ReferenceSplit = Literal["train", "val"]
SPLITS: tuple[ReferenceSplit, ...] = get_args(ReferenceSplit)


class ReferenceSource(ABC):
    """One way to the reference's scores."""

    def setup(self, trainer: Trainer, module: PreferenceModule) -> None:  # noqa: B027  # most need nothing
        """Called before any weight is loaded."""

    def prepare(self, trainer: Trainer, module: PreferenceModule, split: ReferenceSplit) -> None:  # noqa: B027
        """Called when weights are loaded, before the first score of a split; does its work once."""

    @abstractmethod
    def scores(self, module: PreferenceModule, batch: Any, split: ReferenceSplit) -> tuple[Any, Head | None]:
        """The reference's scores, and its output head where that is not the policy's own."""

    @property
    def live(self) -> ReferenceSource:
        """The source that the guard watches: what scores by a forward, if anything does."""
        return self

    def keep(self) -> None:  # noqa: B027
        """Write what the run is to find again after a stop."""

    def share(self, trainer: Trainer) -> None:  # noqa: B027
        """Called by all ranks at the end of an epoch, to take over what the others have kept."""

    def refresh(self, module: PreferenceModule, decay: float) -> None:
        """Make the reference the policy as it is now, keeping the share `decay` of itself."""
        raise AssertionError("stored scores are never refreshed, the callback refuses that")

    def tensors(self, module: PreferenceModule) -> dict[str, Tensor]:
        """Name -> the reference's own parameters, as far as a refresh changes them."""
        return {}

    def restore(self, module: PreferenceModule, stored: Mapping[str, Tensor]) -> None:
        """Write the full tensors that `gathered` made of `tensors` back into them.

        Raises:
            ValueError: the names differ.
        """
        kept = self.tensors(module)
        if differing := sorted(stored.keys() ^ kept.keys()):
            raise ValueError(
                f"the checkpoint's refreshed reference is another policy's: {differing[0]} is in one of them only"
            )
        with torch.no_grad():
            for name, tensor in kept.items():
                # Every rank has read the full tensor, and takes its own shard of it.
                value = stored[name].to(tensor.device, tensor.dtype)
                if isinstance(tensor, DTensor):
                    value = distribute_tensor(value, tensor.device_mesh, tensor.placements)
                tensor.copy_(value)


def gathered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Full copies on the CPU; every rank must call it, as sharded tensors are gathered."""
    return {
        # A copy also where it is on the CPU: training goes on while the checkpoint is written.
        name: (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().to("cpu", copy=True)
        for name, tensor in tensors.items()
    }
