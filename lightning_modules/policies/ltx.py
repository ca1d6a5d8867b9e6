"""LTX-Video, as diffusers has it, behind the `VideoFlow` protocol."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.dense.inputs import Prompt
from datamodules.dense.time_schedule import shift_time
from lightning_modules.policies.diffusers_flow import TIME_SCALE, DiffusersVideoFlow
from lightning_modules.policies.flow_codec import CAUSAL_MARKS, T5, CodecParts
from lightning_modules.policies.flow_inputs import FlowInputs
from lightning_modules.policies.flow_model import autoencoder_tensors, read_config
from lightning_modules.policies.given_image import ImageUse
from lightning_modules.policies.original_names import OriginalNames
from lightning_modules.policies.transfer import sent


def _statistics(path: str, config: Mapping[str, Any]) -> tuple[Sequence[float], Sequence[float], int, int]:
    """Mean and std are buffers among the weights, not in the configuration."""
    tensors = autoencoder_tensors(path, ("latents_mean", "latents_std"))
    if not tensors:
        raise ValueError(f"policy: the autoencoder's weights at {path!r} cannot be read, and LTX keeps the statistics "
                         "of its latents there; give a whole pipeline")  # fmt: skip
    scale = float(config.get("scaling_factor", 1.0))
    halvings = 2 ** sum(config["spatio_temporal_scaling"])
    time = config.get("temporal_compression_ratio") or config["patch_size_t"] * halvings
    side = config.get("spatial_compression_ratio") or config["patch_size"] * halvings
    return tensors["latents_mean"].tolist(), (tensors["latents_std"].double() / scale).tolist(), time, side


def _embed(pipe: Any, prompts: Sequence[str], length: int, device: torch.device) -> list[Prompt]:
    tokens, masks, *_ = pipe.encode_prompt(
        list(prompts), do_classifier_free_guidance=False, max_sequence_length=length, device=device
    )
    return [{"embeds": row[mask.bool()]} for row, mask in zip(tokens, masks, strict=True)]


def _decode(vae: Any, latents: Tensor) -> Tensor:
    """As the pipeline does it by default: a decoder that takes a noise level is given 0."""
    level = latents.new_zeros(1) if vae.config.timestep_conditioning else None
    video: Tensor = vae.decode(latents, level).sample
    return video


class LTXPolicy(DiffusersVideoFlow):
    """An LTX-Video checkpoint that is trained, sampled from and exported, see `DiffusersVideoFlow`.

    The transformer sees packed latents and the frame rate of the video; its noise levels are shifted by the number of
    tokens and end at 0.1 before the last step.

    Args:
        path: a pipeline's folder or hub id in the diffusers format.
        image_to_video: give the model the first frame of the pair's own video.
        prompt_length: as the pipeline's default; see `DiffusersVideoFlow`.
        **options: see `DiffusersVideoFlow`.
    """

    transformer = "LTXVideoTransformer3DModel"
    codec_parts = CodecParts(
        pipeline="LTXPipeline",
        vae="AutoencoderKLLTXVideo",
        text=T5,
        marks=CAUSAL_MARKS,
        statistics=_statistics,
        embed=_embed,
        decode=_decode,
    )
    block_lists = ("transformer_blocks",)
    linears = r"transformer_blocks\.\d+\.(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ff\.net\.(0\.proj|2))"
    first_weight = "proj_in.weight"
    text_width = "caption_channels"
    # Its blocks have the same names in diffusers.
    original = OriginalNames(lambda name: name if name.startswith("transformer_blocks.") else None, alpha=False)

    def __init__(self, path: str, image_to_video: bool = False, prompt_length: int = 128, **options: Any) -> None:
        super().__init__(path, prompt_length=prompt_length, **options)
        self.image_to_video = image_to_video

    @property
    def image_use(self) -> ImageUse:
        """The first frame, where that is asked for."""
        return "given" if self.image_to_video else "none"

    def schedule(self, num_steps: int, latent_shape: Sequence[int]) -> Tensor:
        """Levels shifted by the number of tokens and stretched, so that the last one above 0 is the scheduler's."""
        config = read_config(self.path, "scheduler")
        tokens = math.prod(size // patch for size, patch in zip(latent_shape[1:], self.patch, strict=True))
        low, high = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
        base, most = config.get("base_shift", 0.5), config.get("max_shift", 1.15)
        shift = math.exp(base + (most - base) * (tokens - low) / (high - low))
        levels = torch.arange(num_steps, 0, -1, dtype=torch.float64) / num_steps
        levels = shift_time(levels, shift)
        last = config.get("shift_terminal")
        if last and num_steps > 1:
            levels = 1 - (1 - levels) * (1 - last) / (1 - levels[-1])
        return torch.cat([levels, levels.new_zeros(1)])

    def predict(self, inputs: FlowInputs) -> Tensor:
        """What LTX predicts is the velocity, of packed latents at positions in seconds.

        Raises:
            ValueError: no frame rate is known.
        """
        from diffusers import LTXPipeline

        noisy, conditions = inputs.noisy, inputs.conditions
        if len(conditions) != len(noisy):
            raise ValueError("LTX-Video takes the frame rate of every video, and the batch does not say it")
        frames, height, width = inputs.tokens
        time, side, _ = self.patch
        space = self.latent_space
        fps = sent(torch.tensor([condition.fps for condition in conditions]), noisy.device)
        packed: Tensor = self.base(
            hidden_states=LTXPipeline._pack_latents(noisy, side, time).to(inputs.dtype),
            encoder_hidden_states=inputs.text["embeds"],
            timestep=inputs.token_times * TIME_SCALE,
            encoder_attention_mask=inputs.masks["embeds"],
            num_frames=frames,
            height=height,
            width=width,
            # Positions are in seconds: the same motion at another frame rate is another number of latents.
            rope_interpolation_scale=(
                (space.temporal_ratio / fps).view(-1, 1, 1, 1, 1), space.spatial_ratio, space.spatial_ratio
            ),
            return_dict=False,
        )[0]  # fmt: skip
        unpacked: Tensor = LTXPipeline._unpack_latents(packed, frames, height, width, side, time)
        return unpacked
