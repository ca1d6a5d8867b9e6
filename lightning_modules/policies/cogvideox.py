"""CogVideoX, as diffusers has it, behind the `VideoFlow` protocol.

It is a diffusion model of the path a x + s noise with a^2 + s^2 = 1, at 1000 times, and predicts v = a noise - s x. On
our path that is time t = s / (a + s): x_t = (a x + s noise) / (a + s), and the velocity is (s - a) x' + (a + s) v for
x' = a x + s noise. Deterministic DDIM is then the Euler loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from datamodules.dense.inputs import Condition, Prompt
from datamodules.dense.rows import PromptShapes
from lightning_modules.policies.diffusers_flow import DiffusersVideoFlow
from lightning_modules.policies.flow_codec import CodecParts
from lightning_modules.policies.flow_model import read_config


def _statistics(path: str, config: Mapping[str, Any]) -> tuple[Sequence[float], Sequence[float], int, int]:
    channels, scale = config["latent_channels"], config["scaling_factor"]
    side = 2 ** (len(config["block_out_channels"]) - 1)
    return [0.0] * channels, [1 / scale] * channels, config["temporal_compression_ratio"], side


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
    CogVideoX-1.5 takes an even number of latent frames; the one that it lacks is put in front, where the pipeline has
    noise of its own, as a copy of the first (our choice).

    Args:
        path: a pipeline's folder or hub id in the diffusers format.
        prompt_length: the one that the checkpoint is made for; see `DiffusersVideoFlow`.
        **options: see `DiffusersVideoFlow`.
    """

    transformer = "CogVideoXTransformer3DModel"
    codec_parts = CodecParts(
        pipeline="CogVideoXPipeline",
        vae="AutoencoderKLCogVideoX",
        text={"tokenizer": "AutoTokenizer", "text_encoder": "T5EncoderModel"},
        marks=("encoder.conv_in.conv.weight", "encoder.conv_out.conv.weight"),
        statistics=_statistics,
        embed=_embed,
    )
    block_lists = ("transformer_blocks",)
    linears = r"transformer_blocks\.\d+\.(attn1\.(to_q|to_k|to_v|to_out\.0)|ff\.net\.(0\.proj|2))"
    first_weight = "patch_embed.proj.weight"
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
    def prompt_shapes(self) -> PromptShapes:
        """Stream -> (most tokens, D)."""
        return {"embeds": (self.prompt_length, int(self.config["text_embed_dim"]))}

    @property
    def patch(self) -> tuple[int, int, int]:
        """Latents in a token; frames are padded."""
        return (1, self.config["patch_size"], self.config["patch_size"])

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

    def predict(
        self,
        noisy: Tensor,
        t: Tensor,
        text: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        conditions: Sequence[Condition],
    ) -> Tensor:
        """The velocity, from v at the real number between two of the family's times that is our time."""
        table, time = self._table.to(t.device), t.double()
        above = torch.searchsorted(table, time).clamp(1, len(table) - 1)
        low, high = table[above - 1], table[above]
        index = above - 1 + ((time - low) / (high - low)).clamp(0, 1)
        scale = ((1 - time).square() + time.square()).rsqrt()  # a + s, from t alone
        signal, noise = (factor.float().view(-1, 1, 1, 1, 1) for factor in ((1 - time) * scale, time * scale))
        path = noisy * (signal + noise)
        v = self._v(path, index.float(), text["embeds"])
        return (noise - signal) * path + (signal + noise) * v

    def _v(self, path: Tensor, index: Tensor, embeds: Tensor) -> Tensor:
        """(B, C, F, H, W) float32; the model has frames before channels."""
        frames = path.shape[2]
        padding = -frames % (self.config.get("patch_size_t") or 1)
        padded = torch.cat([path[:, :, :1].expand(-1, -1, padding, -1, -1), path], dim=2)
        v: Tensor = self.base(
            hidden_states=padded.transpose(1, 2).to(embeds.dtype),
            encoder_hidden_states=embeds,
            timestep=index,
            image_rotary_emb=self._rotary(padded),
            return_dict=False,
        )[0]
        return v.transpose(1, 2)[:, :, padding:].float()

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
