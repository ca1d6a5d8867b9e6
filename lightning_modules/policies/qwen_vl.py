"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: positions in three rows, pairs of frames, deepstack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.vista.samples import Box, View
from lightning_modules.policies.frames import distinct_units
from lightning_modules.policies.prefixes import PackedViews, Prefix
from lightning_modules.policies.processor_policy import ProcessorPolicy
from lightning_modules.policies.video_llm import VideoLLM


class QwenVLPolicy(ProcessorPolicy, VideoLLM):
    """A checkpoint of Qwen2-VL, Qwen2.5-VL or Qwen3-VL; the arguments that are not named here are every policy's.

    Times enter the positions (Qwen2.5-VL) or the prompt (Qwen3-VL). The tower attends within a pair of frames, so every
    distinct pair is encoded once.

    Args:
        path: a checkpoint folder or hub id of the transformers format.
        min_pixels: the least pixels of a frame (Qwen3-VL: of a video); None = the checkpoint's.
        max_pixels: the most; None = the checkpoint's. With both the number of tokens is bounded.
        cap_pixels_per_frame: bound the pixels of long videos as qwen-vl-utils does (Qwen2-VL, Qwen2.5-VL). None = the
            checkpoint's, or no bound; transformers announced that its own default will change.
        options: of every policy behind a processor.

    Raises:
        ValueError: `path` holds no such checkpoint, or a setting contradicts another.
    """

    uses_times = True
    kinds = {  # noqa: RUF012  # never written
        "qwen2_vl": "Qwen2VLForConditionalGeneration",
        "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
        "qwen3_vl": "Qwen3VLForConditionalGeneration",
    }

    def __init__(
        self,
        path: str,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        cap_pixels_per_frame: bool | None = None,
        **options: Any,
    ) -> None:
        super().__init__(path, **options)
        video_processor = self.processor.video_processor
        size = video_processor.size
        # Pinned here, so that a cached score carries them whatever the library's defaults become.
        self.min_pixels = int(size["shortest_edge"]) if min_pixels is None else min_pixels
        self.max_pixels = int(size["longest_edge"]) if max_pixels is None else max_pixels
        cap = getattr(video_processor, "cap_pixels_per_frame", None)
        self.cap_pixels_per_frame = bool(cap) if cap_pixels_per_frame is None else cap_pixels_per_frame
        if not 0 < self.min_pixels <= self.max_pixels:
            raise ValueError(
                f"policy: min_pixels is {self.min_pixels} and max_pixels {self.max_pixels}; give 0 < min <= max"
            )

    def visible(self, height: int, width: int) -> Box:
        """All of it: frames are resized, never cut."""
        return Box(0.0, 0.0, float(width), float(height))

    def processor_options(self, view: View, where: str) -> dict[str, Any]:
        """The clock and the pixel budget."""
        size = {"shortest_edge": self.min_pixels, "longest_edge": self.max_pixels}
        budget = {"size": size, "cap_pixels_per_frame": self.cap_pixels_per_frame}
        return {**super().processor_options(view, where), **budget}

    def processor_facts(self) -> dict[str, Any]:
        """With the pixel budget."""
        names = ("min_pixels", "max_pixels", "cap_pixels_per_frame")
        return {**{name: getattr(self, name) for name in names}, **super().processor_facts()}

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
        pairs, places = distinct_units(videos, [tuple(grid[1:]) for grid in grids])
        shapes = dict(
            zip((place for row in places for place in row), (g for g in grids for _ in range(g[0])), strict=True)
        )
        grid = torch.tensor([[1, *shapes[place][1:]] for place in range(len(pairs))], device=self.device)
        pixels = torch.cat(pairs).to(self.device, next(tower.parameters()).dtype)
        out = tower(pixels, grid_thw=grid, return_dict=True)
        sizes = [rows * columns // tower.spatial_merge_size**2 for _, rows, columns in grid.tolist()]
        layers = [out.pooler_output, *(getattr(out, "deepstack_features", None) or [])]
        order = [place for row in places for place in row]
        features = tuple(torch.cat([layer.split(sizes)[place] for place in order]) for layer in layers)
        assert len(features[0]) == sum(prefix.ids.count(self.video_token_id) for prefix in prefixes)
        return features

    def hidden(self, packed: PackedViews, vision: tuple[Tensor, ...], mask: Tensor) -> Tensor:
        """As `TransformersVideoLLM.hidden`; deepstack features are added behind the first layers."""
        features, *deep = [self.of_rows(packed, layer) for layer in vision]
        more = {"visual_pos_masks": packed.ids == self.video_token_id, "deepstack_visual_embeds": deep} if deep else {}
        hidden: Tensor = self.decoder(
            inputs_embeds=self.scattered(packed.ids, features),
            attention_mask=mask,
            position_ids=packed.positions,
            use_cache=False,
            **more,
        ).last_hidden_state
        return hidden
