"""LLaVA-NeXT-Video, LLaVA-OneVision and InternVL: frame by frame through the tower."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from math import isqrt

import torch
from torch import Tensor

from datamodules.vista.samples import View
from datamodules.vista.shared_frames import ResizeFrames, distinct_parts
from lightning_modules.policies.clip_tower import tower_dtype
from lightning_modules.policies.frame_resizer import FrameResizer
from lightning_modules.policies.prefixes import Prefix
from lightning_modules.policies.processor_policy import ProcessorPolicy
from lightning_modules.policies.token_pooling import check_sides, pooled_tokens
from lightning_modules.policies.transfer import picked, sent
from lightning_modules.policies.video_llm import VideoLLM


class LlavaVideoPolicy(ProcessorPolicy, VideoLLM):
    """A checkpoint of LLaVA-NeXT-Video, LLaVA-OneVision or InternVL 2.5 / 3 / 3.5 in the transformers format.

    The tower sees frames one by one, so every distinct frame is encoded once.
    """

    asking = "embeddings"
    unpoolable = None
    kinds = {  # noqa: RUF012  # never written
        "llava_next_video": "LlavaNextVideoForConditionalGeneration",
        "llava_onevision": "LlavaOnevisionForConditionalGeneration",
        "internvl": "InternVLForConditionalGeneration",
    }

    def frame_resizer(self) -> ResizeFrames | None:
        """By the processor alone, since these families show every frame at one size, or InternVL's as it is asked."""
        return None if self._budget.options else FrameResizer.of(self.processor.video_processor)

    def see(self, prefixes: Sequence[Prefix]) -> tuple[Tensor]:
        """(n, D) projected and pooled features, view by view."""
        name = "pixel_values" if self.config.model_type == "internvl" else "pixel_values_videos"
        # A video is (1, T, 3, S, S), or of InternVL T pictures.
        videos = [prefix.inputs[name].reshape(-1, *prefix.inputs[name].shape[-3:]) for prefix in prefixes]
        kinds = [video.shape[1:] for video in videos]
        frames, places = distinct_parts([prefix.view for prefix in prefixes], videos, kinds)
        dtype = tower_dtype(self.base.model.vision_tower)
        features, ending = self._features(sent(torch.stack(frames).to(dtype), self.device))
        side = isqrt(features.shape[1])
        views = [
            torch.cat([pooled_tokens(shown, side, side, prefix.pooling).flatten(0, 1), ending])
            for shown, prefix in zip(picked(features, places), prefixes, strict=True)
        ]
        counts = [prefix.ids.count(self.video_token_id) for prefix in prefixes]
        assert [len(view) for view in views] == counts, "features and placeholders differ in number"
        return (torch.cat(views),)

    def pooled_ids(self, ids: list[int], view: View) -> list[int]:
        """Each run of placeholders cut down: InternVL's are of one frame, the others' of all frames and a line break.

        Raises:
            ValueError: the squares do not fill a frame's tokens.
        """
        pooling = self.pooling_of(view)
        if pooling == 1:
            return ids
        total = ids.count(self.video_token_id)
        tokens = (total - self._line_breaks) // view.num_frames
        check_sides([isqrt(tokens)] * 2, self.token_pooling, "the projector")
        cut: list[int] = []
        for placeholder, run in groupby(ids, lambda index: index == self.video_token_id):
            length = len(own := list(run))
            cut += own[: length // tokens * (tokens // pooling**2) + length % tokens] if placeholder else own
        return cut

    @property
    def _line_breaks(self) -> int:
        """OneVision puts one learned line break behind a video."""
        return 1 if self.config.model_type == "llava_onevision" else 0

    def _features(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """(U, 3, S, S) distinct frames -> (U, P, D) features, and (e, D) what ends a video."""
        model = self.base.model
        if self.config.model_type == "internvl":
            features = model.get_image_features(frames, return_dict=True).pooler_output
            return features, features.new_zeros(0, features.shape[-1])
        features = model.get_video_features(frames[None], return_dict=True).pooler_output.flatten(0, 1)
        cut = len(features) - self._line_breaks
        return features[:cut].unflatten(0, (len(frames), -1)), features[cut:]
