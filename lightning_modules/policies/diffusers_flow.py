"""What no family of video diffusion models owns, beside its networks: denoising, conditions, videos and prompts."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from datamodules.dense.inputs import Condition, Prompt
from datamodules.dense.latent_space import LatentSpace
from datamodules.dense.rows import PromptShapes
from datamodules.dense.time_schedule import shift_time
from lightning_modules.policies.euler import euler, levels_from
from lightning_modules.policies.flow_codec import FlowCodec, Precision
from lightning_modules.policies.flow_inputs import FlowInputs
from lightning_modules.policies.flow_model import padded_stream, read_config
from lightning_modules.policies.flow_networks import FlowNetworks
from lightning_modules.policies.given_image import ImageUse, given_frames, image_fault, states_fault, with_given
from lightning_modules.policies.image_tower import ImageTower
from lightning_modules.policies.video_flow import Prediction, VideoFlow, error_weight

#: Most families' transformers count time from 0 to this.
TIME_SCALE = 1000.0


class DiffusersVideoFlow(FlowNetworks, VideoFlow):
    """A video diffusion checkpoint of diffusers that is trained, sampled from and exported; a family is a subclass.

    Building reads configurations only and `load` the transformer only; autoencoder and text encoders load at the first
    `encode_video`, `decode_video` or `encode_prompt`.

    Args:
        path: a pipeline's folder or hub id in the diffusers format.
        prompt_length: tokens to which prompts are padded, as the pipeline does by default; longer ones are cut, which
            `predict` says before it begins.
        vae_dtype: type of the autoencoder in memory; bfloat16 halves its memory and moves latents by about a percent.
        vae_tiling: encode and decode in overlapping tiles: less memory, slightly other pixels at the seams.
        **options: see `FlowNetworks`.
    """

    #: A weight that is the first to be computed with, by its name.
    first_weight: ClassVar[str]
    #: What the transformer's configuration calls the width of a prompt's embeddings.
    text_width: ClassVar[str] = "text_dim"
    entry_points = ("velocity",)
    prediction: Prediction = "velocity"
    embeds_guidance = False

    def __init__(
        self,
        path: str,
        prompt_length: int = 512,
        vae_dtype: Precision = "float32",
        vae_tiling: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(path, **options)
        self.prompt_length = prompt_length
        # Settings that are not used are in no record of a run, so that runs which earlier releases began go on.
        if vae_dtype != "float32":
            self.vae_dtype = vae_dtype
        if vae_tiling:
            self.vae_tiling = vae_tiling
        self._codec = FlowCodec(
            path, self.codec_parts, self.dtype, prompt_length, vae_dtype, vae_tiling, self.leading_frames,
            ImageTower(path, vae_dtype) if self.attends_to_image else None,
        )  # fmt: skip
        self._empty_prompt: Prompt | None = None

    # What a family may say

    @abstractmethod
    def predict(self, inputs: FlowInputs) -> Tensor:
        """The velocity of B videos, (B, C, F, H, W) of any type, by the family's own transformer."""

    @property
    def prompt_shapes(self) -> PromptShapes:
        """Stream -> (most tokens, D)."""
        return {"embeds": (self.prompt_length, int(self.config[self.text_width]))}

    @property
    def patch(self) -> tuple[int, int, int]:
        """Latents in a token, in time, height and width."""
        patch = self.config["patch_size"]
        # One size for both sides, and the time's by itself, which may be left out where it is 1.
        time, height, width = (self.config.get("patch_size_t") or 1, patch, patch) if isinstance(patch, int) else patch
        return (time, height, width)

    @property
    def leading_frames(self) -> int:
        """Copies of the first latent frame before a video, see `LatentSpace`."""
        return 0

    @property
    def attends_to_image(self) -> bool:
        """Whether the model attends to the states of an image's tower beside the text."""
        return False

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

    @property
    def latent_space(self) -> LatentSpace:
        """Where the latents live; of the autoencoder no more than its statistics is read for it."""
        return self._codec.space

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
        frames, height, width = (divmod(size, patch) for size, patch in zip(noisy.shape[2:], self.patch, strict=True))
        if frames[1] or height[1] or width[1]:
            raise ValueError(f"latents {tuple(noisy.shape)} do not divide into patches of {self.patch}")
        # Read here, where a sharded weight is gathered in the type that it computes in.
        kind = self.base.get_parameter(self.first_weight).dtype
        text, masks = {}, {}
        for name, shape in self.prompt_shapes.items():
            tokens, mask = padded_stream(prompts, name, shape)
            text[name], masks[name] = tokens.to(noisy.device, kind), mask.to(noisy.device)
        given = given_frames(self.image_use, noisy.shape[2], conditions, noisy.device)
        clean_where_given = with_given(noisy.float(), given, conditions)
        counts = (frames[0], height[0], width[0])
        inputs = FlowInputs(clean_where_given, t.float(), text, masks, conditions, counts, given)
        velocity = self.predict(inputs).float()
        return velocity if given is None else velocity.masked_fill(given[:, None, :, None, None], 0.0)

    forward = velocity

    def error_weight(self, t: Tensor, error_of: Prediction | None = None) -> Tensor:
        """Factors (B,) for times (B,), see the function of this name."""
        return error_weight(t, error_of or self.prediction)

    def predicted_frames(self, frames: int, condition: Condition) -> Tensor:
        """(F,) bool, False for frames that are given, and for those that are no part of the video."""
        given = given_frames(self.image_use, frames, [condition], torch.device("cpu"))
        predicted = torch.ones(frames, dtype=torch.bool) if given is None else ~given[0]
        predicted[: self.leading_frames] = False
        return predicted

    def condition_fault(
        self,
        latent_shape: Sequence[int],
        image_shape: Sequence[int] | None,
        states_shape: Sequence[int] | None = None,
    ) -> str | None:
        """Why latents with this image, or without any, cannot be trained on; None = they can."""
        tower = self._codec.tower
        why = image_fault(self.image_use, latent_shape, image_shape)
        return why or states_fault(None if tower is None else tower.shape, states_shape)

    def condition(self, frames: Tensor, fps: float) -> Condition:
        """The condition of a video (T, 3, H, W) uint8, its first frame encoded where the model starts from an image."""
        if self.image_use == "none":
            return Condition(fps)
        if self.image_use == "given":
            return Condition(fps, self.encode_video([frames[:1]])[0])
        pixels = frames.to(self.device).transpose(0, 1).float() / 127.5 - 1
        # As the pipelines: what follows the image is 0 of pixels from -1 to 1, which is grey and not black.
        pixels[:, 1:] = 0.0
        tower = self._codec.tower
        states = None if tower is None else tower.states(frames[0], self.device)
        return Condition(fps, self._codec.encode_pixels(pixels)[0], image_states=states)

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

    @property
    def frames_period(self) -> int:
        """Videos have a multiple of this many frames plus 1."""
        return self.latent_space.temporal_ratio

    def video_fault(self, frames: int, height: int, width: int) -> str | None:
        """Why a video of this length and size cannot be encoded, with the nearest that can; None = it can."""
        if why := self.latent_space.frames_fault(frames, self.frames_period):
            return f"{why}: cut the video, or sample another number of frames"
        multiples = [self.latent_space.spatial_ratio * patch for patch in self.patch[1:]]
        if height % multiples[0] or width % multiples[1]:
            return (
                f"{width} x {height} pixels do not divide into patches of {self.latent_space.name}'s latents; "
                f"height must be a multiple of {multiples[0]} and width one of {multiples[1]}"
            )
        return None

    def encode_video(self, frames: Sequence[Tensor]) -> Tensor:
        """B videos (T, 3, H, W) uint8 of one shape, T = r k + 1 -> (B, C, F, h, w) float32, normalised.

        Raises:
            ValueError: another number of frames, sizes that differ, or one that does not divide into patches.
        """
        shapes = {tuple(video.shape) for video in frames}
        if len(shapes) != 1:
            raise ValueError(f"videos to encode together must have one shape, these have {sorted(shapes)}")
        length, _, height, width = shapes.pop()
        if why := self.video_fault(length, height, width):
            raise ValueError(f"a video of {tuple(frames[0].shape)} (T, 3, H, W): {why}")
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
