"""Towers that see frames one by one: which of their states a checkpoint selects, and what of them trains."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def tower_states(tower: Any, pixels: Tensor, layers: int | list[int]) -> Tensor:
    """(U, 3, S, S) frames -> (U, P, W), the hidden states of the layers that a checkpoint selects, side by side.

    Args:
        tower: the vision model.
        pixels: distinct frames.
        layers: the configuration's `vision_feature_layer`.
    """
    states = tower(pixels, output_hidden_states=True, return_dict=True).hidden_states
    selected: Tensor = states[layers] if isinstance(layers, int) else torch.cat([states[i] for i in layers], dim=-1)
    return selected


def freeze_unused_layers(tower: Any, selected: int | list[int]) -> None:
    """Freeze what is behind the selected features: it never gets a gradient, which DDP refuses.

    Args:
        tower: the CLIP vision model.
        selected: the configuration's `vision_feature_layer`.
    """
    tower = getattr(tower, "vision_model", tower)
    count = len(tower.encoder.layers)
    # hidden_states[0] is the embedding, hidden_states[i] what layer i - 1 returns.
    layers = [selected] if isinstance(selected, int) else selected
    used = max(layer if layer >= 0 else count + 1 + layer for layer in layers)
    tower.encoder.layers[used:].requires_grad_(False)
    tower.post_layernorm.requires_grad_(False)


def tower_dtype(tower: Any) -> torch.dtype:
    """The type that a tower computes in."""
    dtype: torch.dtype = next(tower.parameters()).dtype
    return dtype
