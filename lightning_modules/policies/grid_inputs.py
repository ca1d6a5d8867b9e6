"""What a tower works out of the grids of its videos, made on the CPU, where the grids are.

In their own forwards the towers of Qwen, GLM and VideoLLaMA3 read grids and lengths from the device, the lengths once
more in every block.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_modules.policies.transfer import sent


def grid_inputs(tower: Any, grids: Tensor, device: torch.device, merge_sizes: Tensor | None = None) -> dict[str, Any]:
    """What a tower is given besides pixels and grids, under the names that its forward looks for.

    Args:
        tower: of a family of transformers whose videos have grids.
        grids: (n, 3) int64, time, height and width in patches, on the CPU.
        device: the tower's.
        merge_sizes: (n,) the side of the squares that become a token; None = the tower's own.

    Returns:
        position_ids, cu_seqlens and, where the tower has them, windows and weights of its table of positions. Lengths
        stay on the CPU, where they are read; FlashAttention takes them on the device.
    """
    from transformers import vision_utils
    from transformers.utils.generic import get_max_seqlen, is_flash_attention_requested

    merge = tower.spatial_merge_size if merge_sizes is None else merge_sizes
    lengths, longest = vision_utils.get_vision_attention_seqlens(grids, tower.config)
    inputs: dict[str, Any] = {"position_ids": vision_utils.get_vision_position_ids(grids, merge)}
    sizes: dict[str, Any] = {"cu_seqlens": lengths, "max_seqlen": longest}
    if hasattr(tower, "window_size"):
        inputs["window_index"], windows = vision_utils.get_vision_window_index(
            grids, merge, tower.window_size, tower.patch_size
        )
        sizes |= {"cu_window_seqlens": windows, "max_window_seqlen": get_max_seqlen(windows, tower.config)}
    if hasattr(tower, "num_grid_per_side"):
        indices, weights = vision_utils.get_vision_interpolation_indices_and_weights(
            grids,
            tower.num_grid_per_side,
            mode=tower.interpolation_mode,
            align_corners=tower.interpolation_align_corners,
            spatial_merge_size=merge,
        )
        inputs |= {"interp_indices": indices, "interp_weights": weights}
    moved = {name: sent(value, device) for name, value in inputs.items()}
    if is_flash_attention_requested(tower.config):
        return moved | {name: sent(size, device) if isinstance(size, Tensor) else size for name, size in sizes.items()}
    return moved | {name: size for name, size in sizes.items() if size is not None}
