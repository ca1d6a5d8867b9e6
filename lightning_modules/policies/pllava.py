"""PLLaVA: a CLIP tower on 16 frames, pooled over time and space, before Vicuna."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.vista.samples import View
from lightning_modules.policies import hub_model
from lightning_modules.policies.clip_tower import tower_dtype, tower_states
from lightning_modules.policies.frames import FrameFit
from lightning_modules.policies.pllava_weights import check_names, llava_configuration, merged_weights, weight_names
from lightning_modules.policies.prefixes import Prefix
from lightning_modules.policies.quantization import quantization_options, quantize_on_meta
from lightning_modules.policies.template_policy import TemplatePolicy
from lightning_modules.policies.token_pooling import check_sides, pooled_tokens
from lightning_modules.policies.transfer import picked
from lightning_modules.policies.video_llm import VideoLLM

_VIDEO_CHATGPT = (
    "You are Video-ChatGPT, a large vision-language assistant. You are able to understand the video content that the "
    "user provides, and assist the user with a variety of tasks using natural language.Follow the instructions "
    "carefully and explain your answers in detail based on the provided video."
)
_MVBENCH = (
    "Carefully watch the video and pay attention to the cause and sequence of events, the detail and movement of "
    "objects, and the action and pose of persons. Based on your observations, select the best option that accurately "
    "addresses the question.\n"
)
#: The prompts that the release asks with, by what it measures: its demo, VCGBench, MVBench.
PROMPTS: dict[str, str] = {
    "plain": "USER:<image> {question} ASSISTANT:",
    "vcg": _VIDEO_CHATGPT + " USER: <image>\n USER: {question} ASSISTANT:",
    "mvbench": _MVBENCH + " USER: <image>\n USER: {question} ASSISTANT:",
}


class PllavaPolicy(TemplatePolicy, VideoLLM):
    """A PLLaVA 7B or 13B checkpoint as it is published; the arguments that are not named here are every policy's.

    Its own LoRA is merged when it is read, and a new adapter trains on the merged model.

    Args:
        path: a folder or hub id in the published layout (`model_type` pllava, the language model saved inside peft).
        lora_alpha: the scale of the checkpoint's own LoRA, which is in none of its files; 4 for the published 7B and
            13B, which were trained with 32.
        base: the LLaVA checkpoint below a file that holds only what was trained.
        prompt_template: plain, vcg or mvbench, the release's prompts; or a text with ``{question}`` and ``<image>``.
        frame_fit: how frames meet the tower; processor = shorter side to 336, then the central square.
        options: of every policy of transformers.

    Raises:
        ValueError: `path` holds no PLLaVA, or not all of one, or `lora_alpha` is missing.
    """

    def __init__(
        self,
        path: str,
        lora_alpha: float | None = None,
        base: str | None = None,
        prompt_template: str = "plain",
        frame_fit: FrameFit = "processor",
        **options: Any,
    ) -> None:
        # Before the others: the configuration is checked together with the names of the weights.
        self.lora_alpha = lora_alpha
        self.base_path = base
        self._content: dict[str, Any] = {}
        super().__init__(path, PROMPTS.get(prompt_template, prompt_template), frame_fit, **options)
        self.pooling = tuple(self._content.get("pooling_shape", (16, 12, 12)))
        #: Frames below which a video's are repeated.
        self.num_frames = int(self._content.get("num_frames", 16))
        check_sides(self.pooling[1:], self.token_pooling, "PLLaVA's own pooling")

    def read_config(self) -> Any:
        """The configuration of transformers' LLaVA, from the published one."""
        self._content = hub_model.raw_configuration(self.path)
        if self._content.get("model_type") != "pllava":
            raise ValueError(hub_model.other_family(self.path, self._content.get("model_type", "?"), ["pllava"]))
        check_names(self.path, weight_names(self.path), self.base_path, self.lora_alpha)
        return llava_configuration(self._content)

    def read_processor(self) -> Any:
        """The tokenizer, and CLIP's preparation of frames: its own processor is no class of transformers."""
        from transformers import AutoTokenizer, LlavaNextVideoVideoProcessor

        side = self.config.vision_config.image_size
        frames = LlavaNextVideoVideoProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
        tokenizer = AutoTokenizer.from_pretrained(self.path, trust_remote_code=False)
        return SimpleNamespace(tokenizer=tokenizer, video_processor=frames, video_token="<image>")  # noqa: S106

    def num_video_tokens(self, view: View | None = None) -> int:
        """What pooling leaves, whatever the number of frames."""
        time, height, width = self.pooling
        side = 1 if self.token_pooling is None else self.token_pooling.video
        side = side if view is None else self.pooling_of(view)
        return int(time * (height // side) * (width // side))

    def build(self, meta: bool) -> Any:
        """LLaVA with the merged weights, or on the meta device without them."""
        from transformers import LlavaForConditionalGeneration

        config, dtype = hub_model.without_dropout(self.config), getattr(torch, self.dtype)
        options: dict[str, Any] = {"dtype": dtype, "attn_implementation": self.attn_implementation}
        kept = [] if self.quantization is None else hub_model.kept_modules(LlavaForConditionalGeneration, config)
        if meta:
            with torch.device("meta"):
                model = LlavaForConditionalGeneration._from_config(config, **options)
            if self.quantization is not None:
                quantize_on_meta(model, self.quantization, dtype, kept)
            return model
        options |= quantization_options(self.quantization, dtype, kept)
        state = merged_weights(self.path, self.base_path, self.lora_alpha, dtype)
        model, report = LlavaForConditionalGeneration.from_pretrained(
            None, trust_remote_code=False, config=config, state_dict=state, output_loading_info=True, **options
        )
        lacking = sorted(name for name in report["missing_keys"] if "post_layernorm" not in name)
        if lacking or report["mismatched_keys"]:
            names = lacking or sorted(str(key) for key in report["mismatched_keys"])
            raise ValueError(
                f"policy: {self.path!r} is not a whole PLLaVA: {len(names)} tensors do not fit, as {names[0]}"
            )
        return model

    def see(self, prefixes: Sequence[Prefix]) -> tuple[Tensor]:
        """(n, D) features: every distinct frame projected once, then pooled video by video."""
        pixels, places = self.pixels(prefixes)
        model = self.base.model
        pixels = pixels.to(tower_dtype(model.vision_tower))
        states = tower_states(model.vision_tower, pixels, self.config.vision_feature_layer)
        # The tower's class token comes first and is left out.
        projected = model.multi_modal_projector(states[:, 1:])
        side = self.config.vision_config.image_size // self.config.vision_config.patch_size
        videos = [self._pooled(torch.unflatten(frames, 1, (side, side))) for frames in picked(projected, places)]
        time, height, width = self.pooling
        views = [
            pooled_tokens(video.reshape(time, height * width, -1), height, width, prefix.pooling).flatten(0, 1)
            for video, prefix in zip(videos, prefixes, strict=True)
        ]
        return (torch.cat(views),)

    def _pooled(self, frames: Tensor) -> Tensor:
        """(T, h, w, D) projected frames -> (t h w, D); a video shorter than the pool repeats its frames."""
        if len(frames) < self.num_frames:
            frames = frames.repeat_interleave(self.num_frames // len(frames) + 1, dim=0)[: self.num_frames]
        pooled = nn.functional.adaptive_avg_pool3d(frames.permute(3, 0, 1, 2), self.pooling)
        return pooled.flatten(1).T

    def save_model(self, folder: Path, state_dict: dict[str, Tensor] | None) -> None:
        """Write the whole model, without a LoRA of its own, as `PllavaPolicy` reads it."""
        from huggingface_hub import save_torch_state_dict

        folder.mkdir(parents=True, exist_ok=True)
        save_torch_state_dict(state_dict or self.model.state_dict(), str(folder))
        (folder / "config.json").write_text(json.dumps(self._content, indent=2))
        self.processor.tokenizer.save_pretrained(folder)
