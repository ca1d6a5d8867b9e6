"""CogVideoX, as diffusers has it, behind the `VideoFlow` protocol.

It is a diffusion model of the path a x + s noise with a^2 + s^2 = 1, at 1000 times, and predicts v = a noise - s x. On
our path that is time t = s / (a + s): x_t = (a x + s noise) / (a + s), and the velocity is (s - a) x' + (a + s) v for
x' = a x + s noise. Deterministic DDIM is then the Euler loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from datamodules.dense.inputs import Prompt
from lightning_modules.policies.diffusers_flow import DiffusersVideoFlow
from lightning_modules.policies.flow_codec import CAUSAL_MARKS, T5, CodecParts, scaled_latents
from lightning_modules.policies.flow_inputs import FlowInputs
from lightning_modules.policies.flow_model import read_config


def _embed(pipe: Any, prompts: Sequence[str], length: int, device: torch.device) -> list[Prompt]:
    # CogVideoX attends to padding, whose embeddings are no zeros, so that it is a part of the prompt.
    tokens, _ = pipe.encode_prompt(
        list(prompts), do_classifier_free_guidance=False, max_sequence_length=length, device=device
    )
    return [{"embeds": row} for row in tokens]


class CogVideoXPolicy(DiffusersVideoFlow):
    """A CogVideoX text-to-video checkpoint that is trained, sampled from and exported, see `DiffusersVideoFlow`.

    Preference losses compare the errors of its v-prediction, which is Diffusion-DPO; `DenseDPO.error_of` chooses
    another. Videos have 8 k + 1 frames: of another number the autoencoder gives back more frames than it got.
    CogVideoX-1.5 takes an even number of latent frames. The one that a video lacks is a copy of its first, put in front
    when it is encoded, as the authors trained it; it gets noise of its own and is denoised with the others, as in the
    pipeline, but it has no label, no share in a mean, and is cut off before decoding.

    Args:
        path: a pipeline's folder or hub id in the diffusers format.
        prompt_length: the one that the checkpoint is made for; see `DiffusersVideoFlow`.
        **options: see `DiffusersVideoFlow`.
    """

    transformer = "CogVideoXTransformer3DModel"
    codec_parts = CodecParts(
        pipeline="CogVideoXPipeline",
        vae="AutoencoderKLCogVideoX",
        text=T5,
        marks=CAUSAL_MARKS,
        statistics=scaled_latents,
        embed=_embed,
    )
    block_lists = ("transformer_blocks",)
    linears = r"transformer_blocks\.\d+\.(attn1\.(to_q|to_k|to_v|to_out\.0)|ff\.net\.(0\.proj|2))"
    first_weight = "patch_embed.proj.weight"
    text_width = "text_embed_dim"
    prediction = "v"

    def __init__(self, path: str, prompt_length: int = 226, **options: Any) -> None:
        super().__init__(path, prompt_length=prompt_length, **options)
        if prompt_length != self.config["max_text_seq_length"]:
            raise ValueError(
                f"policy: prompt_length is {prompt_length}, {path!r} is made for exactly "
                f"{self.config['max_text_seq_length']} tokens, to which it attends whether they are words or padding"
            )

    def read_transformer_config(self, path: str, subfolder: str) -> dict[str, Any]:
        """The configuration of a transformer that makes videos from text.

        Raises:
            ValueError: there is none, it is another family's, or it makes videos from an image.
        """
        config = super().read_transformer_config(path, subfolder)
        if config["in_channels"] != config["out_channels"] or config.get("ofs_embed_dim"):
            raise ValueError(f"policy: {path!r} makes videos from an image; this policy takes text-to-video CogVideoX")
        return config

    @property
    def leading_frames(self) -> int:
        """Videos have an odd number of latent frames, and CogVideoX-1.5 takes an even one."""
        return self.patch[0] - 1

    @property
    def frames_period(self) -> int:
        """The decoder makes two latent frames at a time: of another number it gives back more frames than it got."""
        return 2 * self.latent_space.temporal_ratio

    @cached_property
    def _table(self) -> Tensor:
        """(1000,) float64, our time of each of the family's."""
        from diffusers import CogVideoXDDIMScheduler

        scheduler: Any = CogVideoXDDIMScheduler.from_config(read_config(self.path, "scheduler"))
        power: Tensor = scheduler.alphas_cumprod.double()
        signal, noise = power.sqrt(), (1 - power).sqrt()
        return noise / (signal + noise)

    def schedule(self, num_steps: int, latent_shape: Sequence[int]) -> Tensor:
        """Every 1000 / num_steps-th of its times from the last one on, as the pipeline takes them."""
        steps = torch.arange(num_steps, 0, -1, dtype=torch.float64) * len(self._table) / num_steps
        return torch.cat([self._table[steps.round().long() - 1], torch.zeros(1, dtype=torch.float64)])

    def predict(self, inputs: FlowInputs) -> Tensor:
        """The velocity, from v at the real number between two of the family's times that is our time."""
        table, time = self._table.to(inputs.t.device), inputs.t.double()
        above = torch.searchsorted(table, time).clamp(1, len(table) - 1)
        low, high = table[above - 1], table[above]
        index = above - 1 + ((time - low) / (high - low)).clamp(0, 1)
        # a + s of the family's path, from our time alone; on it a = (1 - t)(a + s) and s = t (a + s).
        scale = ((1 - time).square() + time.square()).rsqrt()
        signal, noise = (factor.float().view(-1, 1, 1, 1, 1) for factor in ((1 - time) * scale, time * scale))
        path = inputs.noisy * (signal + noise)
        v: Tensor = self.base(
            # The model has frames before channels.
            hidden_states=path.transpose(1, 2).to(inputs.dtype),
            encoder_hidden_states=inputs.text["embeds"],
            timestep=index.float(),
            image_rotary_emb=self._rotary(path),
            return_dict=False,
        )[0]
        return (noise - signal) * path + (signal + noise) * v.transpose(1, 2).float()

    def _rotary(self, path: Tensor) -> tuple[Tensor, Tensor] | None:
        """Cosines and sines of the positions, for checkpoints that have rotary ones."""
        from diffusers import CogVideoXPipeline

        if not self.config["use_rotary_positional_embeddings"]:
            return None
        # The pipeline's own rule, with sizes in latents instead of pixels.
        owner: Any = SimpleNamespace(vae_scale_factor_spatial=1, transformer=self.base)
        frames, height, width = path.shape[2:]
        rotary: tuple[Tensor, Tensor] = CogVideoXPipeline._prepare_rotary_positional_embeddings(
            owner, height, width, frames, path.device
        )
        return rotary
