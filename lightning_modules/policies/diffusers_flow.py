"""What no family of video diffusion models owns: loading, adapters, reference, denoising, videos, prompts, exports."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from datamodules.dense.inputs import Condition, Prompt
from datamodules.dense.latent_space import LatentSpace
from datamodules.dense.rows import PromptShapes
from datamodules.dense.time_schedule import shift_time
from lightning_modules.policies import adapters
from lightning_modules.policies.euler import euler, levels_from
from lightning_modules.policies.flow_adapters import FlowLora, read_adapter, write_adapter
from lightning_modules.policies.flow_codec import CodecParts, FlowCodec, Precision
from lightning_modules.policies.flow_model import build_transformer, padded_stream, read_config, save_transformer
from lightning_modules.policies.given_image import ImageUse, given_frames, image_fault, with_given
from lightning_modules.policies.lora_targets import AdapterRoom
from lightning_modules.policies.sharding import full_state_dict, is_sharded
from lightning_modules.policies.video_flow import Prediction, VideoFlow, error_weight

#: Most families' transformers count time from 0 to this.
TIME_SCALE = 1000.0


class DiffusersVideoFlow(nn.Module, VideoFlow):
    """A video diffusion checkpoint of diffusers that is trained, sampled from and exported; a family is a subclass.

    With `lora` or `adapter` an adapter trains; without either the whole transformer does (full fine-tuning, which the
    paper found unstable). Building reads configurations only and `load` the transformer only; autoencoder and text
    encoders load at the first `encode_video`, `decode_video` or `encode_prompt`.

    Args:
        path: a pipeline's folder or hub id in the diffusers format.
        lora: a new LoRA adapter; None = none.
        adapter: a folder that `pipe.load_lora_weights` reads, to start from or to sample with. It trains on, and a
            frozen copy of it is the reference, so that what supervised fine-tuning taught stays in the reference.
        reference_adapter: keep a frozen adapter as the reference also where a new adapter trains; needed where the
            reference is to follow the policy.
        dtype: type of transformer and text encoders in memory; adapters are float32 always, and so is what the family
            keeps in float32.
        prompt_length: tokens to which prompts are padded, as the pipeline does by default; longer ones are cut, which
            `predict` says before it begins.
        weights: a folder that full fine-tuning exported, whose transformer takes the place of the pipeline's.
        activation_checkpointing: recompute the blocks' activations in backward instead of keeping them.
        vae_dtype: type of the autoencoder in memory; bfloat16 halves its memory and moves latents by about a percent.
        vae_tiling: encode and decode in overlapping tiles: less memory, slightly other pixels at the seams.

    Raises:
        ValueError: `path` holds no pipeline of the family, or a setting contradicts another.
    """

    #: The family's class of transformer, and what is around it.
    transformer: ClassVar[str]
    codec_parts: ClassVar[CodecParts]
    #: The lists of transformer blocks, each block a sharding unit.
    block_lists: ClassVar[tuple[str, ...]] = ("blocks",)
    #: A weight that is the first to be computed with, by its name.
    first_weight: ClassVar[str]
    entry_points = ("velocity",)
    prediction: Prediction = "velocity"

    def __init__(
        self,
        path: str,
        lora: FlowLora | None = None,
        adapter: str | None = None,
        reference_adapter: bool = False,
        dtype: Precision = "float32",
        prompt_length: int = 512,
        weights: str | None = None,
        activation_checkpointing: bool = False,
        vae_dtype: Precision = "float32",
        vae_tiling: bool = False,
    ) -> None:
        super().__init__()
        self.path = path
        self.lora = lora
        self.adapter = adapter
        self.reference_adapter = reference_adapter
        self.dtype = dtype
        self.prompt_length = prompt_length
        self.weights = weights
        self.activation_checkpointing = activation_checkpointing
        # Settings that are not used are in no record of a run, so that runs which earlier releases began go on.
        if vae_dtype != "float32":
            self.vae_dtype = vae_dtype
        if vae_tiling:
            self.vae_tiling = vae_tiling
        self.pipeline_index = read_config(path)
        configs = [self.read_transformer_config(*self._source(name)) for name in self.networks]
        self.config = configs[0]
        self._adapter_configs = {name: self._adapter_config(name) for name in self.networks}
        self._codec = FlowCodec(path, self.codec_parts, dtype, prompt_length, vae_dtype, vae_tiling)
        self._empty_prompt: Prompt | None = None
        self.model: Any = None
        # Says where the policy is before it is loaded, or where it never is, as when videos are only encoded.
        self.register_buffer("_place", torch.zeros(1), persistent=False)

    # What a family may say

    @abstractmethod
    def predict(
        self,
        noisy: Tensor,
        t: Tensor,
        text: Mapping[str, Tensor],
        masks: Mapping[str, Tensor],
        conditions: Sequence[Condition],
    ) -> Tensor:
        """The velocity, by the family's own transformer.

        Args:
            noisy: (B, C, F, H, W) float32; given frames are clean.
            t: (B,) float32.
            text: stream -> (B, most tokens, D), padded with zeros, in the type that the transformer computes in.
            masks: stream -> (B, most tokens) bool, False at padding.
            conditions: B conditions, or none.

        Returns:
            (B, C, F, H, W) of any type.
        """

    @property
    @abstractmethod
    def linears(self) -> str:
        """The linears that get an adapter: a regular expression that a module's whole name must match."""

    @property
    def dead_modules(self) -> tuple[str, ...]:
        """Modules whose weights get no gradient, so that no adapter can train there."""
        return ()

    @property
    def networks(self) -> tuple[str, ...]:
        """The transformers of the pipeline that are loaded, by name."""
        return ("transformer",)

    @property
    def prompt_shapes(self) -> PromptShapes:
        """Stream -> (most tokens, D)."""
        return {"embeds": (self.prompt_length, int(self.config["text_dim"]))}

    @property
    def patch(self) -> tuple[int, int, int]:
        """Latents in a token, in time, height and width."""
        time, height, width = self.config["patch_size"]
        return (time, height, width)

    @property
    def image_use(self) -> ImageUse:
        """What the model makes of the latents of a given image."""
        return "none"

    @property
    def times(self) -> tuple[float, float]:
        """Lowest and highest t for which the transformer is made."""
        return (0.0, 1.0)

    def shift(self, latent_shape: Sequence[int]) -> float:
        """The shift of the family's noise levels towards noise: that of the checkpoint's scheduler."""
        config = read_config(self.path, "scheduler")
        return float(config.get("flow_shift") or config.get("shift") or 1.0)

    def schedule(self, num_steps: int, latent_shape: Sequence[int]) -> Tensor:
        """(num_steps + 1,) float64, the noise levels from 1 to 0."""
        steps = torch.arange(num_steps, -1, -1, dtype=torch.float64)
        return shift_time(steps / num_steps, self.shift(latent_shape))

    def read_transformer_config(self, path: str, subfolder: str) -> dict[str, Any]:
        """The configuration of a transformer.

        Raises:
            ValueError: there is none, or it is another family's.
        """
        config = read_config(path, subfolder)
        if config.get("_class_name") != self.transformer:
            raise ValueError(
                f"policy: {path!r} holds a {config.get('_class_name')}, this policy takes a {self.transformer}"
            )
        return config

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
        models = {name: self._load_network(name, meta) for name in self.networks}
        # A single transformer is the model itself: checkpoints name its weights so.
        model = nn.ModuleDict(models) if len(models) > 1 else models[self.networks[0]]
        self.model = model if meta else model.to(self.device)
        self.train()

    def _load_network(self, name: str, meta: bool) -> Any:
        config = self._adapter_configs[name]
        model: Any = build_transformer(
            *self._source(name), self.config, self.dtype, self.activation_checkpointing, meta
        )
        model.requires_grad_(config is None)
        if config is None:
            return model
        second = self.reference_adapter or self.adapter is not None
        new = self.lora if self.adapter is None else None
        room = AdapterRoom.of(model, model, self._blocks_of(model), model.proj_out, self.dead_modules)
        with torch.device("meta" if meta else "cpu"):
            model = adapters.add_adapters(model, config, second, room, new)
        if self.adapter is not None and not meta:
            folder = self._adapter_folder(self.adapter, name)
            adapters.load_weights(model, read_adapter(folder, self.codec_parts.pipeline)[1], folder)
        return model

    def _source(self, name: str) -> tuple[str, str]:
        """Path and subfolder of a transformer's weights."""
        if self.weights is None:
            return self.path, name
        return self.weights, name if len(self.networks) > 1 else ""

    def _adapter_folder(self, folder: str, name: str) -> str:
        """The folder of one transformer's adapter: of several, each but the first has a folder below."""
        return folder if name == self.networks[0] else f"{folder.rstrip('/')}/{name}"

    def _adapter_config(self, name: str) -> Any:
        if self.adapter is not None:
            folder = self._adapter_folder(self.adapter, name)
            return adapters.existing_config(read_adapter(folder, self.codec_parts.pipeline)[0], self.lora, folder)
        return None if self.lora is None else adapters.new_config(self.lora, self.linears)

    def network(self, name: str) -> Any:
        """A transformer as diffusers has it, in which adapters are in place."""
        assert self.model is not None, "load() comes first"
        model = self.model[name] if len(self.networks) > 1 else self.model
        return model if self._adapter_configs[name] is None else model.get_base_model()

    @property
    def base(self) -> Any:
        """The transformer, the first of several, as diffusers has it."""
        return self.network(self.networks[0])

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where the module is, loaded or not."""
        return self.get_buffer("_place").device

    @property
    def latent_space(self) -> LatentSpace:
        """Where the latents live; of the autoencoder no more than its statistics is read for it."""
        return self._codec.space

    def blocks(self) -> Iterator[nn.Module]:
        """The transformer blocks, each a sharding unit."""
        for name in self.networks:
            yield from self._blocks_of(self.network(name))

    def _blocks_of(self, network: Any) -> list[nn.Module]:
        return [block for name in self.block_lists for block in getattr(network, name)]

    def reference_mode(self) -> AbstractContextManager[None]:
        """While it is entered, compute as the reference; without adapters, which switch nothing, as the model is."""
        return adapters.reference_mode(self.model)

    # Denoising

    def velocity(
        self, noisy: Tensor, t: Tensor, prompts: Sequence[Prompt], conditions: Sequence[Condition] = ()
    ) -> Tensor:
        """The predicted velocity noise - x, see `VideoFlow.velocity`.

        Raises:
            ValueError: `t` is of a 16-bit type, sizes do not divide, or embeddings or conditions do not fit.
        """
        if t.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                f"t is {t.dtype}, in which 731.2 of 1000 is 732 and the velocity another: keep it float32. For 16-bit "
                "weights set the policy's `dtype`, not the trainer's precision"
            )
        if any(size % patch for size, patch in zip(noisy.shape[2:], self.patch, strict=True)):
            raise ValueError(f"latents {tuple(noisy.shape)} do not divide into patches of {self.patch}")
        # Read here, where a sharded weight is gathered in the type that it computes in.
        kind = self.base.get_parameter(self.first_weight).dtype
        text, masks = {}, {}
        for name, shape in self.prompt_shapes.items():
            tokens, mask = padded_stream(prompts, name, shape)
            text[name], masks[name] = tokens.to(noisy.device, kind), mask.to(noisy.device)
        given = given_frames(self.image_use, noisy.shape[2], conditions, noisy.device)
        velocity = self.predict(with_given(noisy.float(), given, conditions), t.float(), text, masks, conditions)
        velocity = velocity.float()
        return velocity if given is None else velocity.masked_fill(given[:, None, :, None, None], 0.0)

    forward = velocity

    def error_weight(self, t: Tensor, error_of: Prediction | None = None) -> Tensor:
        """Factors (B,) for times (B,), see the function of this name."""
        return error_weight(t, error_of or self.prediction)

    def predicted_frames(self, frames: int, condition: Condition) -> Tensor:
        """(F,) bool, False for frames that are given."""
        given = given_frames(self.image_use, frames, [condition], torch.device("cpu"))
        return torch.ones(frames, dtype=torch.bool) if given is None else ~given[0]

    def condition_fault(self, latent_shape: Sequence[int], image_shape: Sequence[int] | None) -> str | None:
        """Why latents with this image, or without any, cannot be trained on; None = they can."""
        return image_fault(self.image_use, latent_shape, image_shape)

    def condition(self, frames: Tensor, fps: float) -> Condition:
        """The condition of a video (T, 3, H, W) uint8, its first frame encoded where the model starts from an image."""
        if self.image_use == "none":
            return Condition(fps)
        if self.image_use == "given":
            return Condition(fps, self.encode_video([frames[:1]])[0])
        pixels = frames.to(self.device).transpose(0, 1).float() / 127.5 - 1
        pixels[:, 1:] = 0.0
        return Condition(fps, self._codec.encode_pixels(pixels)[0])

    def levels(self, num_steps: int, eta: float, latent_shape: Sequence[int]) -> Tensor:
        """The family's own noise levels from eta down, see `VideoFlow.levels`."""
        return levels_from(self.schedule(num_steps, latent_shape), eta)

    def denoise(
        self,
        latents: Tensor,
        sigmas: Tensor,
        prompts: Sequence[Prompt],
        conditions: Sequence[Condition],
        guidance_scale: float,
        negative: Prompt | None = None,
        rows: int | None = None,
    ) -> Tensor:
        """Euler steps from the first noise level to the last, as `VideoFlow.denoise` says.

        Guidance is a second row a video.

        Raises:
            ValueError: a noise level for which the transformer is not made.
        """
        levels: list[float] = sigmas.tolist()
        self._check_levels(levels[:-1])
        if guidance_scale > 1 and negative is None:
            negative = self._negative()
        # Velocities are 0 there, so that what is given stays as it is.
        given = given_frames(self.image_use, latents.shape[2], conditions, latents.device)
        latents = with_given(latents, given, conditions)
        return euler(self.velocity, latents, levels, prompts, conditions, guidance_scale, negative, rows)

    def _check_levels(self, levels: Sequence[float]) -> None:
        low, high = self.times
        # The boundary itself belongs to the expert above it.
        wrong = [level for level in levels if level < low or (level >= high and high < 1)]
        if wrong:
            raise ValueError(
                f"{self.networks[0]} of {self.path!r} is made for noise levels {low:g} to {high:g}, not for "
                f"{wrong[0]:g}: take the other transformer, both, an eta below the boundary, or the pipeline, which "
                "switches between them"
            )

    def _negative(self) -> Prompt:
        """The empty prompt's embeddings, kept so that the text encoders can be released."""
        if self._empty_prompt is None:
            self._empty_prompt = self.encode_prompt([""], allow_empty=True)[0]
        return self._empty_prompt

    # Videos and prompts

    def frames_fault(self, frames: int) -> str | None:
        """Why a video of so many frames cannot be encoded, with the nearest that can; None = it can."""
        return self.latent_space.frames_fault(frames)

    def encode_video(self, frames: Sequence[Tensor]) -> Tensor:
        """B videos (T, 3, H, W) uint8 of one shape, T = r k + 1 -> (B, C, F, h, w) float32, normalised.

        Raises:
            ValueError: another number of frames, sizes that differ, or one that does not divide into patches.
        """
        shapes = {tuple(video.shape) for video in frames}
        if len(shapes) != 1:
            raise ValueError(f"videos to encode together must have one shape, these have {sorted(shapes)}")
        multiples = [self.latent_space.spatial_ratio * patch for patch in self.patch[1:]]
        if any(size % multiple for size, multiple in zip(shapes.pop()[-2:], multiples, strict=True)):
            raise ValueError(
                f"a video of {tuple(frames[0].shape)} (T, 3, H, W) does not divide into latent patches; height must be "
                f"a multiple of {multiples[0]} and width one of {multiples[1]}"
            )
        if why := self.frames_fault(len(frames[0])):
            raise ValueError(f"a video of {tuple(frames[0].shape)} (T, 3, H, W): {why}; cut the video")
        return self._codec.encode(frames, self.device)

    def decode_video(self, latents: Tensor) -> list[Tensor]:
        """(B, C, F, h, w) normalised latents -> B videos (T, 3, H, W) uint8."""
        return list((self._codec.decode(latents) * 255).round().to(torch.uint8))

    def encode_prompt(self, prompts: Sequence[str], allow_empty: bool = False) -> list[Prompt]:
        """Prompt embeddings by stream, float32 without padding.

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

    def release(self, keep_vae: bool = False) -> None:
        """Free autoencoder, unless it is kept on the CPU, and text encoders; they load again when needed."""
        self._codec.release(keep_vae)

    # Exports

    def export(self, folder: Path, state_dict: Mapping[str, Tensor] | None = None) -> None:
        """Write what was trained: an adapter that the family's pipeline loads, or a transformer for `from_pretrained`.

        Of several transformers, each but the first has a folder below, by its name. Under sharding every rank calls
        it, since weights are gathered; rank 0 writes.

        Args:
            folder: where to; made if need be.
            state_dict: full tensors of all that the export holds, named as in `self.state_dict()`; None = the weights
                as they are now.
        """
        adapted = self._adapter_configs[self.networks[0]] is not None
        if state_dict is None and is_sharded(self):
            state_dict = full_state_dict(self, trained_only=adapted)
        if torch.distributed.is_initialized() and torch.distributed.get_rank() != 0:
            return
        for name in self.networks:
            several = len(self.networks) > 1
            prefix = f"model.{name}." if several else "model."
            own = None if state_dict is None else {
                key.removeprefix(prefix): tensor for key, tensor in state_dict.items() if key.startswith(prefix)
            }  # fmt: skip
            model = self.model[name] if several else self.model
            if adapted:
                write_adapter(model, Path(self._adapter_folder(str(folder), name)), own, self.codec_parts.pipeline)
            else:
                save_transformer(model, folder / name if several else folder, own)
