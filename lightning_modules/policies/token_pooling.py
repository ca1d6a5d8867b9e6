"""Fewer tokens a frame: neighbouring patch tokens averaged behind the projector, by another factor in each view."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.vista.samples import View


@dataclass(frozen=True)
class TokenPooling:
    """Sides of the squares of patch tokens that are averaged into one; 1 = every token stays.

    A long video then fits: 2 leaves a quarter of a frame's tokens, 4 a sixteenth. It is no setting of the published
    checkpoints: train with it what you will ask with it.

    Attributes:
        video: in the views of the whole video, and in every question of `generate`.
        clip: in the views of the clip, and in the event's clip that a reference is shown.
        object: in the views of the boxed frame.
    """

    video: int = 1
    clip: int = 1
    object: int = 1

    def __post_init__(self) -> None:
        if wrong := {name: side for name, side in self.sides().items() if side < 1}:
            raise ValueError(f"token_pooling: {wrong}; give 1 (every token) or more")

    def sides(self) -> dict[str, int]:
        """Level -> side."""
        return {own.name: getattr(self, own.name) for own in fields(self)}

    def of(self, view: View) -> int:
        """The side in a view."""
        if view.for_reference:
            return self.clip
        return self.sides().get(view.name.removesuffix("_negative"), self.video)

    def __str__(self) -> str:
        return ", ".join(f"{name} {side} x {side}" for name, side in self.sides().items())


def check_sides(grids: Iterable[int], pooling: TokenPooling | None, what: str) -> None:
    """Refuse squares that do not fill the grid of a frame's tokens.

    Args:
        grids: sides of the grid, in tokens.
        pooling: the setting.
        what: has this grid, for the error.

    Raises:
        ValueError: names the level.
    """
    for name, side in {} if pooling is None else pooling.sides().items():
        if any(grid % side for grid in grids):
            size = " x ".join(map(str, grids))
            raise ValueError(
                f"policy.token_pooling.{name} is {side}: {what} has {size} tokens a frame, which squares of {side} x "
                f"{side} do not fill; give a divisor"
            )


def pooled_tokens(tokens: Tensor, height: int, width: int, side: int, first: int = 0) -> Tensor:
    """Averages of side x side squares of each frame's tokens.

    Args:
        tokens: (T, first + height * width, D), rows of the grid one after the other.
        height: of the grid.
        width: of the grid.
        side: of the squares, a divisor of both.
        first: tokens before the grid that are no patches, as a class token; they stay.

    Returns:
        (T, first + height / side * width / side, D).
    """
    if side == 1:
        return tokens
    grid = tokens[:, first:].reshape(len(tokens), height, width, -1).permute(0, 3, 1, 2)
    averages = F.avg_pool2d(grid, side).flatten(2).transpose(1, 2)
    return torch.cat([tokens[:, :first], averages], dim=1)
