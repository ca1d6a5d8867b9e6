"""Mochi 1, as diffusers has it, behind the `VideoFlow` protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.dense.inputs import Prompt
from lightning_modules.policies.diffusers_flow import TIME_SCALE, DiffusersVideoFlow
from lightning_modules.policies.flow_codec import T5, CodecParts
from lightning_modules.policies.flow_inputs import FlowInputs

#: Where the schedule turns from small even steps near noise to growing ones, in shares of the way.
_THRESHOLD = 0.025


def _statistics(path: str, config: Mapping[str, Any]) -> tuple[Sequence[float], Sequence[float], int, int]:
    scale = config["scaling_factor"]
    # The ratios are in no configuration; the pipeline has them as constants.
    return config["latents_mean"], [std / scale for std in config["latents_std"]], 6, 8


def _embed(pipe: Any, prompts: Sequence[str], length: int, device: torch.device) -> list[Prompt]:
    tokens, masks, *_ = pipe.encode_prompt(
        list(prompts), do_classifier_free_guidance=False, max_sequence_length=length, device=device
    )
    return [{"embeds": row[mask.bool()]} for row, mask in zip(tokens, masks, strict=True)]


class MochiPolicy(DiffusersVideoFlow):
    """A Mochi checkpoint that is trained, sampled from and exported, see `DiffusersVideoFlow`.

    Args:
        path: a pipeline's folder or hub id in the diffusers format.
        prompt_length: as the pipeline's default; see `DiffusersVideoFlow`.
        **options: see `DiffusersVideoFlow`.

    Raises:
        ValueError: also if the autoencoder is to be in bfloat16.
    """

    transformer = "MochiTransformer3DModel"
    codec_parts = CodecParts(
        pipeline="MochiPipeline",
        vae="AutoencoderKLMochi",
        text=T5,
        marks=("encoder.proj_in.weight", "encoder.proj_out.weight"),
        statistics=_statistics,
        embed=_embed,
    )
    block_lists = ("transformer_blocks",)
    first_weight = "patch_embed.proj.weight"
    text_width = "text_embed_dim"

    def __init__(self, path: str, prompt_length: int = 256, **options: Any) -> None:
        super().__init__(path, prompt_length=prompt_length, **options)
        if self._codec.vae_dtype != "float32":
            # Measured on a random encoder: latents that are off by four fifths of their size.
            raise ValueError(
                "policy.vae_dtype: Mochi's encoder reads pixels by sines of up to 128 periods, in which 16 bits of a "
                "pixel are another one; leave it at float32, and set policy.vae_tiling for less memory"
            )

    @property
    def dead_modules(self) -> tuple[str, ...]:
        """Of the last block nobody reads the text."""
        return (f"transformer_blocks.{self.config['num_layers'] - 1}.attn1.add_q_proj",)

    @property
    def linears(self) -> str:
        """Attention and feed-forward, of both streams but for the text's side of the last block."""
        text = r"attn1\.(add_q_proj|to_add_out)|ff_context\.net\.(0\.proj|2)"
        both = r"attn1\.(to_q|to_k|to_v|to_out\.0|add_k_proj|add_v_proj)|ff\.net\.(0\.proj|2)"
        return rf"transformer_blocks\.(\d+\.({both})|(?!{self.config['num_layers'] - 1}\.)\d+\.({text}))"

    def schedule(self, num_steps: int, latent_shape: Sequence[int]) -> Tensor:
        """Levels that fall evenly at first and by a quadratic rule from the middle on."""
        from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule

        if num_steps == 1:  # too few for the rule's two parts
            return torch.tensor([1.0, 0.0], dtype=torch.float64)
        levels = linear_quadratic_schedule(num_steps, _THRESHOLD)
        return torch.tensor([*levels, 0.0], dtype=torch.float64)

    def encode_prompt(self, prompts: Sequence[str], allow_empty: bool = False) -> list[Prompt]:
        """As the base does it; where the checkpoint says so, the empty prompt has no token at all."""
        embedded = super().encode_prompt(prompts, allow_empty)
        if not self.pipeline_index.get("force_zeros_for_empty_prompt"):
            return embedded
        return [
            prompt if text else {"embeds": prompt["embeds"][:0]} for text, prompt in zip(prompts, embedded, strict=True)
        ]

    def predict(self, inputs: FlowInputs) -> Tensor:
        """Mochi's time runs from noise to video, and it predicts x - noise."""
        velocity: Tensor = self.base(
            hidden_states=inputs.noisy.to(inputs.dtype),
            encoder_hidden_states=inputs.text["embeds"],
            timestep=(1.0 - inputs.t) * TIME_SCALE,
            encoder_attention_mask=inputs.masks["embeds"],
            return_dict=False,
        )[0]
        return -velocity
