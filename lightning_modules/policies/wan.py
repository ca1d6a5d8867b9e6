"""Wan, as diffusers has it, behind the `VideoFlow` protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from datamodules.dense.rows import LatentSpace
from lightning_modules.policies import adapters
from lightning_modules.policies.euler import euler
from lightning_modules.policies.lora_targets import AdapterRoom
from lightning_modules.policies.sharding import full_state_dict, is_sharded
from lightning_modules.policies.video_flow import VideoFlow
from lightning_modules.policies.wan_adapters import WAN_LINEARS, WanLora, read_adapter, write_adapter
from lightning_modules.policies.wan_codec import WanCodec
from lightning_modules.policies.wan_model import (
    build_transformer,
    padded_prompts,
    read_config,
    read_transformer_config,
    save_transformer,
)

#: Wan's transformer counts time from 0 to this.
TIME_SCALE = 1000.0


class WanPolicy(nn.Module, VideoFlow):
    """A Wan text-to-video checkpoint that is trained, sampled from and exported.

    With `lora` or `adapter` an adapter trains; without either the whole transformer does (full fine-tuning, which the
    paper found unstable). Building reads configurations only and `load` the transformer only; autoencoder and text
    encoder, float32 and `dtype`, load at the first `encode_video`, `decode_video` or `encode_prompt`.

    Wan2.2-A14B has two transformers: "transformer" for noise levels from its boundary (0.875) up, "transformer_2" below
    it. Guided pairs start at eta <= 0.8 and so use only the low-noise expert: take "transformer_2" for making pairs and
    for training on them, with times below the boundary (`times`; a policy that is asked to denoise outside is an
    error). Its adapter goes into the pipeline by ``load_lora_weights(folder, load_into_transformer_2=True)``; sampling
    from pure noise needs both experts and is the pipeline's business. Wan2.1 and Wan2.2-5B have one transformer.

    Args:
        path: a pipeline's folder or hub id in the diffusers format.
        lora: a new LoRA adapter; None = none.
        adapter: a folder that `pipe.load_lora_weights` reads, to start from or to sample with. It trains on, and a
            frozen copy of it is the reference, so that what supervised fine-tuning taught stays in the reference.
        reference_adapter: keep a frozen adapter as the reference also where a new adapter trains; needed where the
            reference shall follow the policy.
        dtype: type of transformer and text encoder in memory; adapters are float32 always, and so is what Wan keeps in
            float32.
        prompt_length: tokens to which prompts are padded, as the pipeline does by default; longer ones are cut, which
            `predict` says before it begins.
        transformer: which of the pipeline's transformers; see above.
        weights: a folder that full fine-tuning exported, whose transformer takes the place of the pipeline's.
        activation_checkpointing: recompute the blocks' activations in backward instead of keeping them.

    Raises:
        ValueError: `path` holds no Wan text-to-video pipeline, or a setting contradicts another.
    """

    entry_points = ("velocity",)
    prediction = "velocity"

    def __init__(
        self,
        path: str,
        lora: WanLora | None = None,
        adapter: str | None = None,
        reference_adapter: bool = False,
        dtype: Literal["float32", "bfloat16"] = "float32",
        prompt_length: int = 512,
        transformer: Literal["transformer", "transformer_2"] = "transformer",
        weights: str | None = None,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.path = path
        self.lora = lora
        self.adapter = adapter
        self.reference_adapter = reference_adapter
        self.dtype = dtype
        self.prompt_length = prompt_length
        self.expert = transformer
        self.weights = weights
        self.activation_checkpointing = activation_checkpointing
        self._boundary = read_config(path).get("boundary_ratio")
        self._source = (path, transformer) if weights is None else (weights, "")
        self.config = read_transformer_config(*self._source)
        self._adapter_config = self._read_adapter_config()
        self._codec = WanCodec(path, dtype, prompt_length)
        self._empty_prompt: Tensor | None = None
        self.model: Any = None
        # Tells where the policy is before it is loaded, or where it never is, as when videos are only encoded.
        self.register_buffer("_place", torch.zeros(1), persistent=False)

    def _read_adapter_config(self) -> Any:
        if self.adapter is not None:
            return adapters.existing_config(read_adapter(self.adapter)[0], self.lora, self.adapter)
        return None if self.lora is None else adapters.new_config(self.lora, WAN_LINEARS)

    # Weights

    def load(self, meta: bool = False) -> None:
        """Bring in the transformer and its adapters; idempotent.

        Args:
            meta: build on the meta device and read no weights: `sharding.load_sharded` does that later.

        Raises:
            ValueError: the adapter does not fit the checkpoint.
        """
        if self.model is not None:
            return
        model: Any = build_transformer(*self._source, self.config, self.dtype, self.activation_checkpointing, meta)
        model.requires_grad_(self._adapter_config is None)
        if self._adapter_config is not None:
            second = self.reference_adapter or self.adapter is not None
            new = self.lora if self.adapter is None else None
            room = AdapterRoom.of(model, model, model.blocks, model.proj_out)
            with torch.device("meta" if meta else "cpu"):
                model = adapters.add_adapters(model, self._adapter_config, second, room, new)
            if self.adapter is not None and not meta:
                adapters.load_weights(model, read_adapter(self.adapter)[1], self.adapter)
        self.model = model if meta else model.to(self.device)
        self.train()

    @property
    def base(self) -> Any:
        """The transformer as diffusers has it, in which adapters sit in place."""
        assert self.model is not None, "load() comes first"
        return self.model if self._adapter_config is None else self.model.get_base_model()

    @property
    def device(self) -> torch.device:
        """Where the policy is, loaded or not."""
        return self.get_buffer("_place").device

    @property
    def latent_space(self) -> LatentSpace:
        """Where the latents live; of the autoencoder nothing is loaded for it."""
        return self._codec.space

    @property
    def prompt_width(self) -> int:
        """Numbers in a token's embedding."""
        return int(self.config["text_dim"])

    @property
    def times(self) -> tuple[float, float]:
        """Lowest and highest t for which the transformer is made."""
        if self._boundary is None:
            return (0.0, 1.0)
        return (0.0, self._boundary) if self.expert == "transformer_2" else (self._boundary, 1.0)

    def blocks(self) -> Iterator[nn.Module]:
        """The transformer blocks, each a sharding unit."""
        return iter(self.base.blocks)

    def reference_mode(self) -> AbstractContextManager[None]:
        """While it is entered, compute as the reference; without adapters, which switch nothing, as the model is."""
        return adapters.reference_mode(self.model)

    # Denoising

    def velocity(self, noisy: Tensor, t: Tensor, prompts: Sequence[Tensor]) -> Tensor:
        """The predicted velocity noise - x, which is what Wan predicts, at 1000 t, which is how Wan counts time.

        Args:
            noisy: (B, C, F, H, W) latents x_t.
            t: (B,) float32 times in [0, 1].
            prompts: B prompt embeddings (n_i, D) without padding.

        Returns:
            (B, C, F, H, W) float32.

        Raises:
            ValueError: `t` is of a 16-bit type, sizes do not divide, or the embeddings do not fit.
        """
        if t.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"t is {t.dtype}, in which 731.2 of 1000 is 732 and the velocity another: keep it float32. For 16-bit "
                "weights set the policy's `dtype`, not the trainer's precision"
            )
        patch = self.config["patch_size"]
        if any(size % one for size, one in zip(noisy.shape[2:], patch, strict=True)):
            raise ValueError(f"latents {tuple(noisy.shape)} do not divide into patches of {tuple(patch)}")
        # Read here, where a sharded weight is gathered in the type that it computes in.
        kind = self.base.patch_embedding.weight.dtype
        embeds = padded_prompts(prompts, self.prompt_length, self.prompt_width)
        velocity: Tensor = self.base(
            hidden_states=noisy.to(kind),
            timestep=t.float() * TIME_SCALE,
            encoder_hidden_states=embeds.to(noisy.device, kind),
            return_dict=False,
        )[0]
        return velocity.float()

    forward = velocity

    def denoise(
        self,
        latents: Tensor,
        sigmas: Tensor,
        prompts: Sequence[Tensor],
        guidance_scale: float,
        negative: Tensor | None = None,
    ) -> Tensor:
        """Euler steps from the first noise level to the last, as `VideoFlow.denoise` says.

        Guidance is a second row a video; the paper samples with a scale of 8, Wan with 5.

        Raises:
            ValueError: a noise level at which the other expert would have to step.
        """
        levels: list[float] = sigmas.tolist()
        self._check_levels(levels[:-1])
        if guidance_scale > 1 and negative is None:
            negative = self._negative()
        return euler(self.velocity, latents, levels, prompts, guidance_scale, negative)

    def _check_levels(self, levels: Sequence[float]) -> None:
        low, high = self.times
        # The boundary itself belongs to the expert above it.
        wrong = [one for one in levels if one < low or (one >= high and high < 1)]
        if wrong:
            raise ValueError(
                f"{self.expert} of {self.path!r} is made for noise levels {low:g} to {high:g}, not for {wrong[0]:g}: "
                "take the other transformer, an eta below the boundary, or the pipeline, which switches between them"
            )

    def _negative(self) -> Tensor:
        """The empty prompt's embedding, kept so that the text encoder can be released."""
        if self._empty_prompt is None:
            self._empty_prompt = self.encode_prompt([""], allow_empty=True)[0]
        return self._empty_prompt

    # Videos and prompts

    def encode_video(self, frames: Sequence[Tensor]) -> Tensor:
        """B videos (T, 3, H, W) uint8 of one shape, T = 4 k + 1 -> (B, C, F, h, w) float32, normalised.

        Raises:
            ValueError: another number of frames, sizes that differ, or one that does not divide into patches.
        """
        shapes = {tuple(video.shape) for video in frames}
        if len(shapes) != 1:
            raise ValueError(f"videos to encode together must have one shape, these have {sorted(shapes)}")
        multiples = [self.latent_space.spatial_ratio * one for one in self.config["patch_size"][1:]]
        if any(size % one for size, one in zip(shapes.pop()[-2:], multiples, strict=True)):
            raise ValueError(
                f"a video of {tuple(frames[0].shape)} (T, 3, H, W) does not divide into latent patches; height must be "
                f"a multiple of {multiples[0]} and width one of {multiples[1]}"
            )
        return self._codec.encode(frames, self.device)

    def decode_video(self, latents: Tensor) -> list[Tensor]:
        """(B, C, F, h, w) normalised latents -> B videos (T, 3, H, W) uint8."""
        return list((self._codec.decode(latents) * 255).round().to(torch.uint8))

    def encode_prompt(self, prompts: Sequence[str], allow_empty: bool = False) -> list[Tensor]:
        """Prompt embeddings (n_i, D) float32 without padding.

        Raises:
            ValueError: a prompt is empty and `allow_empty` is not set.
        """
        empty = [number for number, prompt in enumerate(prompts) if not prompt.strip()]
        if empty and not allow_empty:
            raise ValueError(f"prompt {empty[0]} is empty; give the video's caption")
        return self._codec.embed(prompts, self.device)

    def prompt_lengths(self, prompts: Sequence[str]) -> list[int]:
        """Tokens of each prompt, before it is cut at `prompt_length`; the text encoder is not loaded."""
        return self._codec.lengths(prompts)

    def release(self) -> None:
        """Free autoencoder and text encoder; they load again when needed."""
        self._codec.release()

    # Exports

    def export(self, folder: Path, state_dict: Mapping[str, Tensor] | None = None) -> None:
        """Write what was trained: an adapter for `pipe.load_lora_weights`, or a transformer for `from_pretrained`.

        Under sharding every rank calls it, since weights are gathered; rank 0 writes.

        Args:
            folder: where to; made if need be.
            state_dict: full tensors of all that the export holds, named as in `self.state_dict()`; None = the weights
                as they are now.
        """
        adapted = self._adapter_config is not None
        if state_dict is None and is_sharded(self):
            state_dict = full_state_dict(self, trained_only=adapted)
        if torch.distributed.is_initialized() and torch.distributed.get_rank() != 0:
            return
        own = None if state_dict is None else {name.removeprefix("model."): one for name, one in state_dict.items()}
        if adapted:
            write_adapter(self.model, folder, own)
        else:
            save_transformer(self.model, folder, own)
