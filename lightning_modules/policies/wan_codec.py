"""Wan's frozen companions: the autoencoder and the text encoder, loaded when they are first needed."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from datamodules.dense.rows import LatentSpace
from lightning_modules.policies.wan_model import read_config, weights_mark


class WanCodec:
    """Videos to latents and back, prompts to embeddings.

    Deliberately no `nn.Module`: a policy that holds one is not trained, sharded or saved with it, and a copy of the
    policy shares it. Neither part is ever in the graph, and autocast does not reach them: what is stored must not
    depend on a trainer's precision.

    Args:
        path: a pipeline's folder or hub id.
        text_dtype: type of the text encoder's weights. The autoencoder is float32 always.
        prompt_length: tokens at which a prompt is cut.
    """

    def __init__(self, path: str, text_dtype: str, prompt_length: int) -> None:
        self.path = path
        self.text_dtype = text_dtype
        self.prompt_length = prompt_length
        self._vae: Any = None
        self._text: Any = None

    def __deepcopy__(self, memo: dict[int, Any]) -> WanCodec:
        return self

    @cached_property
    def space(self) -> LatentSpace:
        """Normalisation and ratios, from the configuration, and the mark of the weights.

        Raises:
            ValueError: the pipeline has no autoencoder, or another family's.
        """
        from diffusers import AutoencoderKLWan

        config = read_config(self.path, "vae")
        if config.get("_class_name") != "AutoencoderKLWan":
            raise ValueError(f"policy: {self.path!r} has a {config.get('_class_name')}; Wan's is an AutoencoderKLWan")
        # Early checkpoints leave out what was the default then and is now.
        defaults = inspect.signature(AutoencoderKLWan.__init__).parameters
        mean, std, time, side = (
            config.get(name, defaults[name].default)
            for name in ("latents_mean", "latents_std", "scale_factor_temporal", "scale_factor_spatial")
        )
        mean, std = tuple(map(float, mean)), tuple(map(float, std))
        return LatentSpace("AutoencoderKLWan", mean, std, int(time), int(side), weights_mark(self.path))

    @torch.no_grad()
    def encode(self, frames: Sequence[Tensor], device: torch.device) -> Tensor:
        """B videos (T, 3, H, W) uint8 -> (B, C, F, h, w) float32, (mode - mean) / std; one video at a time.

        Raises:
            ValueError: a video with T other than the ratio k + 1, of whose end the autoencoder would drop frames.
        """
        ratio = self.space.temporal_ratio
        for number, video in enumerate(frames):
            if video.dtype != torch.uint8 or video.ndim != 4 or video.shape[1] != 3 or (len(video) - 1) % ratio:
                raise ValueError(
                    f"video {number} is {tuple(video.shape)} {video.dtype}; frames must be (T, 3, H, W) uint8 with T a "
                    f"multiple of {ratio} plus 1: cut the video, or sample another number of frames"
                )
        vae = self._autoencoder(device)
        mean, std = self._normalisation(device)
        with torch.autocast(device.type, enabled=False):
            modes = [
                vae.encode(video.to(device).transpose(0, 1)[None].float() / 127.5 - 1).latent_dist.mode()
                for video in frames
            ]
        return (torch.cat(modes) - mean) / std

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """(B, C, F, h, w) normalised latents -> (B, T, 3, H, W) float32 in [0, 1]; one video at a time."""
        vae = self._autoencoder(latents.device)
        mean, std = self._normalisation(latents.device)
        with torch.autocast(latents.device.type, enabled=False):
            videos = [vae.decode(one[None]).sample for one in latents.float() * std + mean]
        return ((torch.cat(videos) + 1) / 2).clamp(0, 1).transpose(1, 2)

    @torch.no_grad()
    def embed(self, prompts: Sequence[str], device: torch.device) -> list[Tensor]:
        """Embeddings (n_i, D) float32 without padding, cleaned and cut as the pipeline does it."""
        text = self._text_pipeline(device)
        with torch.autocast(device.type, enabled=False):
            padded, _ = text.encode_prompt(
                list(prompts), do_classifier_free_guidance=False, max_sequence_length=self.prompt_length, device=device
            )
        # The pipeline sets padding to 0, which no word's embedding is.
        lengths = padded.ne(0).any(-1).sum(-1).tolist()
        return [one[:length].float() for one, length in zip(padded, lengths, strict=True)]

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        """Tokens of each prompt, its end included, as `embed` would have them without a limit; loads no weights."""
        from diffusers.pipelines.wan.pipeline_wan import prompt_clean

        # A prompt beyond the tokenizer's own limit would be warned of by the tokenizer, in other words.
        return [len(self._tokenizer(prompt_clean(prompt), verbose=False)["input_ids"]) for prompt in prompts]

    def release(self) -> None:
        """Forget the weights."""
        self._vae = self._text = None

    def _normalisation(self, device: torch.device) -> tuple[Tensor, Tensor]:
        shape = (-1, 1, 1, 1)
        return tuple(torch.tensor(one, device=device).view(shape) for one in (self.space.mean, self.space.std))  # type: ignore[return-value]

    def _autoencoder(self, device: torch.device) -> Any:
        from diffusers import AutoencoderKLWan

        if self._vae is None:
            self._vae = AutoencoderKLWan.from_pretrained(
                self.path, trust_remote_code=False, subfolder="vae", torch_dtype=torch.float32
            )
            self._vae.requires_grad_(False).eval()
        return self._vae.to(device)

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.path, trust_remote_code=False, subfolder="tokenizer")

    def _text_pipeline(self, device: torch.device) -> Any:
        from diffusers import WanPipeline
        from transformers import UMT5EncoderModel

        if self._text is None:
            kind = getattr(torch, self.text_dtype)
            encoder = UMT5EncoderModel.from_pretrained(
                self.path, trust_remote_code=False, subfolder="text_encoder", dtype=kind
            )
            encoder.requires_grad_(False).eval()
            self._text = WanPipeline(tokenizer=self._tokenizer, text_encoder=encoder, vae=None, scheduler=None)
        self._text.text_encoder.to(device)
        return self._text
