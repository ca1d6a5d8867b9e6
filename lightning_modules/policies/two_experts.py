"""Checkpoints with two transformers, one for high noise levels and one for low ones."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_modules.policies.diffusers_flow import DiffusersVideoFlow
from lightning_modules.policies.flow_inputs import FlowInputs


class TwoExperts(DiffusersVideoFlow):
    """Base of a family some of whose checkpoints have an expert above and one below a noise level.

    Args:
        path: a pipeline's folder or hub id in the diffusers format.
        transformer: which is loaded: "transformer", the only one or the one for high noise levels, "transformer_2", or
            "both", each of which gets its own times.
        **options: see `DiffusersVideoFlow`.

    Raises:
        ValueError: also if there is no second one.
    """

    def __init__(
        self, path: str, transformer: Literal["transformer", "transformer_2", "both"] = "transformer", **options: Any
    ) -> None:
        self.expert = transformer  # the base's constructor asks for it
        super().__init__(path, **options)
        if transformer == "both" and self._boundary is None:
            raise ValueError(f"policy: {path!r} has one transformer, so there are no experts to train: leave both out")

    @abstractmethod
    def predict_by(self, name: str, inputs: FlowInputs) -> Tensor:
        """The velocity by one of the transformers, see `predict`."""

    @property
    def _boundary(self) -> float | None:
        return self.pipeline_index.get("boundary_ratio")

    @property
    def networks(self) -> tuple[str, ...]:
        """The one that was chosen, or both."""
        return ("transformer", "transformer_2") if self.expert == "both" else (self.expert,)

    @property
    def times(self) -> tuple[float, float]:
        """Lowest and highest t for which the transformer is made."""
        if self._boundary is None or self.expert == "both":
            return (0.0, 1.0)
        return (0.0, self._boundary) if self.expert == "transformer_2" else (self._boundary, 1.0)

    def load(self, meta: bool = False) -> None:
        """Bring in the transformer, or both, and their adapters; idempotent.

        Raises:
            ValueError: both are to be sharded.
        """
        if meta and self.expert == "both":
            raise ValueError(
                "policy.transformer: both is for one device and for DDP; under FSDP ranks would gather the weights of "
                "different experts at one time and wait for ever: train transformer and transformer_2 in two runs"
            )
        super().load(meta)

    def predict(self, inputs: FlowInputs) -> Tensor:
        """The velocity, of each video by the transformer that is made for its time."""
        boundary = self._boundary
        if self.expert != "both" or boundary is None:
            return self.predict_by(self.expert, inputs)
        velocity = torch.zeros_like(inputs.noisy)
        # The boundary itself belongs to the expert of high noise levels, as in the pipeline.
        high = inputs.t >= boundary
        for name, rows in zip(self.networks, (high, ~high), strict=True):
            if rows.any():
                velocity[rows] = self.predict_by(name, inputs.rows(rows)).float()
            elif torch.is_grad_enabled():
                # DDP waits for a gradient of every weight on every rank, and 0 is one.
                trained = [weight for weight in self.network(name).parameters() if weight.requires_grad]
                velocity = velocity + sum((weight.sum() for weight in trained), torch.zeros(())) * 0.0
        return velocity
