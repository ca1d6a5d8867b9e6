"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: positions in three rows, pairs of frames, deepstack."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from datamodules.vista.shared_frames import distinct_parts
from lightning_modules.policies.grid_inputs import grid_inputs
from lightning_modules.policies.prefixes import PackedViews, Prefix
from lightning_modules.policies.processor_policy import ProcessorPolicy
from lightning_modules.policies.transfer import sent
from lightning_modules.policies.transformers_llm import placed
from lightning_modules.policies.video_llm import VideoLLM


class QwenVLPolicy(ProcessorPolicy, VideoLLM):
    """A checkpoint of Qwen2-VL, Qwen2.5-VL or Qwen3-VL, with the arguments of `ProcessorPolicy`.

    Times enter the positions (Qwen2.5-VL) or the prompt (Qwen3-VL). The tower attends within a pair of frames, so every
    distinct pair is encoded once.
    """

    uses_times = True
    asking = "inputs"
    unpoolable = (
        "its positions are the rows, columns and times of the tokens as its processor lays them out; lower "
        "policy.max_pixels, which makes fewer of them"
    )
    kinds = {  # noqa: RUF012  # never written
        "qwen2_vl": "Qwen2VLForConditionalGeneration",
        "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
        "qwen3_vl": "Qwen3VLForConditionalGeneration",
    }

    @property
    def reads_mean_step(self) -> bool:
        """Whether positions know the mean step between frames only, and not each one's time."""
        return bool(self.config.model_type == "qwen2_5_vl")

    def positions(self, ids: Sequence[int], inputs: dict[str, Tensor]) -> Tensor:
        """(3, L): time, row and column of every token."""
        described = {name: value for name, value in inputs.items() if name != "pixel_values_videos"}
        positions: Tensor = self.base.model.get_rope_index(torch.tensor([list(ids)]), **described)[0]
        return positions[:, 0]

    def see(self, prefixes: Sequence[Prefix]) -> tuple[Tensor, ...]:
        """(n, D) features, and of Qwen3-VL what enters the first layers; every distinct pair of frames once."""
        tower = self.base.model.visual
        grids = [prefix.inputs["video_grid_thw"][0].tolist() for prefix in prefixes]
        videos = [
            prefix.inputs["pixel_values_videos"].view(time, height * width, -1)
            for prefix, (time, height, width) in zip(prefixes, grids, strict=True)
        ]
        # Two pairs of equal pixels are one only in one grid: the tower knows rows and columns.
        views = [prefix.view for prefix in prefixes]
        pairs, places = distinct_parts(views, videos, [tuple(grid[1:]) for grid in grids])
        shapes = dict(
            zip((place for row in places for place in row), (g for g in grids for _ in range(g[0])), strict=True)
        )
        # Each pair as a video of its own, so that nothing of another is seen.
        grid = torch.tensor([[1, *shapes[place][1:]] for place in range(len(pairs))])
        pixels = sent(torch.cat(pairs).to(next(tower.parameters()).dtype), self.device)
        out = tower(pixels, grid_thw=grid, return_dict=True, **grid_inputs(tower, grid, self.device))
        sizes = [rows * columns // tower.spatial_merge_size**2 for _, rows, columns in grid.tolist()]
        layers = [out.pooler_output, *(getattr(out, "deepstack_features", None) or [])]
        order = [place for row in places for place in row]
        features = tuple(torch.cat([layer.split(sizes)[place] for place in order]) for layer in layers)
        assert len(features[0]) == sum(prefix.ids.count(self.video_token_id) for prefix in prefixes)
        return features

    def hidden(self, packed: PackedViews, vision: tuple[Tensor, ...], mask: Tensor) -> Tensor:
        """As `TransformersVideoLLM.hidden`; deepstack features are added behind the first layers."""
        features, *deep = [self.of_rows(packed, layer) for layer in vision]
        embeds, more = self.scattered(packed, features), {}
        if deep:
            # Every row as a whole, 0 where there is no video: under a mask its places would be counted on the device.
            more = {
                "visual_pos_masks": torch.arange(len(embeds), device=embeds.device),
                "deepstack_visual_embeds": [placed(torch.zeros_like(embeds), packed, layer) for layer in deep],
            }
        hidden: Tensor = self.decoder(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=packed.positions,
            use_cache=False,
            **more,
        ).last_hidden_state
        return hidden
