"""What a family's transformer is given, checked and padded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.dense.inputs import Condition
from lightning_modules.policies.given_image import token_times


@dataclass(frozen=True, slots=True)
class FlowInputs:
    """B noisy videos with all that a family's `predict` may need.

    Attributes:
        noisy: (B, C, F, H, W) float32; given frames are clean.
        t: (B,) float32 times in [0, 1].
        text: stream -> (B, most tokens, D), padded with zeros, in the type that the transformer computes in.
        masks: stream -> (B, most tokens) bool, False at padding.
        conditions: B conditions, or none.
        tokens: frames, height and width of a video in tokens.
        given: (B, F) bool, True for frames that are given; None where there is none.
    """

    noisy: Tensor
    t: Tensor
    text: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]
    conditions: Sequence[Condition]
    tokens: tuple[int, int, int]
    given: Tensor | None = None

    @property
    def dtype(self) -> torch.dtype:
        """What the transformer computes in."""
        return self.text["embeds"].dtype

    @property
    def token_times(self) -> Tensor:
        """The time of each token, 0 in given frames: (B, F h w), or the times (B,) where none is given."""
        return token_times(self.t, self.given, self.tokens)

    def rows(self, rows: Tensor) -> FlowInputs:
        """Some of the videos.

        Args:
            rows: (B,) bool.
        """
        return FlowInputs(
            self.noisy[rows],
            self.t[rows],
            {name: stream[rows] for name, stream in self.text.items()},
            {name: mask[rows] for name, mask in self.masks.items()},
            [condition for condition, chosen in zip(self.conditions, rows.tolist(), strict=True) if chosen]
            if self.conditions
            else (),
            self.tokens,
            None if self.given is None else self.given[rows],
        )
