"""The seam behind which a video diffusion family lives.

One convention for everything above it (`lightning_modules.losses.flow`): x_t = (1 - t) x + t noise with t in [0, 1],
t = 1 being noise; the velocity is v = noise - x; a step from noise level s to s' is x + (s' - s) v. Latents are
(B, C, F, H, W) float32, normalised as the transformer sees them.

A family's own, and hidden behind these methods:

- how latents are packed into tokens, which masks, sizes and sequence lengths go along;
- the direction and the scale of its time (Wan and most others take 1000 t, Mochi 1000 (1 - t)), its sign (Mochi
  predicts x - noise), and in which precision time must reach it;
- what it predicts, and on which path. A network that predicts the noise gives v = (noise - x_t) / (1 - t); one of a
  variance-preserving path a x + s noise is on our path after division by a + s, at t = s / (a + s). Such a family
  converts on the way in and out, and says what it predicts: the errors of preference losses are then those of that
  prediction, see `error_weight`, which is Diffusion-DPO;
- the noise levels of sampling, and which frames are given to it instead of being made;
- tokeniser, text encoder, the length prompts are padded to and what padding holds; the autoencoder and the
  normalisation of its latents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from datamodules.dense.inputs import Condition, Prompt
from datamodules.dense.latent_space import LatentSpace
from datamodules.dense.rows import PromptShapes

#: What a family predicts, and so what its errors are of. v is a noise - s x on the path a x + s noise, a^2 + s^2 = 1.
Prediction = Literal["velocity", "noise", "v"]


def error_weight(t: Tensor, prediction: Prediction) -> Tensor:
    """What turns the squared error of a velocity into that of another prediction: (B,) factors for times (B,).

    The noise that a velocity v implies is x_t + (1 - t) v, so its error is (1 - t)^2 times that of the velocity; that
    of the v-prediction is (1 - t)^2 + t^2 times as large.
    """
    if prediction == "velocity":
        return torch.ones_like(t)
    noise_share = (1 - t).square()
    return noise_share if prediction == "noise" else noise_share + t.square()


class VideoFlow(Protocol):
    """One model family. An `nn.Module` whose constructor reads configuration only; `load` brings the weights.

    Only the denoiser is a part of the module: it alone is trained, sharded and saved. Autoencoder and text encoder are
    no sub-modules; they load when a method first needs them, so that training on stored latents and embeddings never
    sees them. Under FSDP2 the module is entered only through `forward` (which is `velocity`) and `entry_points`.

    Attributes:
        entry_points: methods, besides `forward`, through which a sharded module may be entered.
        model: the denoiser with its adapters, None until `load`.
        prediction: what the family's errors are of.
        prompt_length: tokens to which prompts are padded, the stream "embeds" that is.
        embeds_guidance: whether the denoiser was distilled to take the guidance scale as an input
            (`Condition.guidance`), so that samples need no second row.
    """

    entry_points: tuple[str, ...]
    model: nn.Module | None
    prediction: Prediction
    prompt_length: int
    embeds_guidance: bool

    @property
    def device(self) -> torch.device:
        """Where the module is, loaded or not."""

    def load(self, meta: bool = False) -> None:
        """Bring in the denoiser and its adapters; idempotent.

        Args:
            meta: build on the meta device and read no weights: `sharding.load_sharded` does that later.
        """

    @property
    def latent_space(self) -> LatentSpace:
        """Where the latents live; of the autoencoder nothing is loaded for it."""

    @property
    def prompt_shapes(self) -> PromptShapes:
        """Stream -> (most tokens, D), or (D,) of a pooled one."""

    @property
    def times(self) -> tuple[float, float]:
        """Lowest and highest t for which this denoiser is made; (0, 1) unless it is one of several experts."""

    def velocity(
        self, noisy: Tensor, t: Tensor, prompts: Sequence[Prompt], conditions: Sequence[Condition] = ()
    ) -> Tensor:
        """The predicted velocity noise - x; 0 for frames that are given, whose noisy latents are not looked at.

        Args:
            noisy: (B, C, F, H, W) latents x_t.
            t: (B,) float32 times in [0, 1]; never a 16-bit type, in which 0.7312 is 0.73.
            prompts: B prompts, each by stream, without padding.
            conditions: B conditions; none will do for a family that has no use for them.

        Returns:
            (B, C, F, H, W) float32.

        Raises:
            ValueError: `t` has lost its precision, or the embeddings or conditions do not fit.
        """

    def error_weight(self, t: Tensor, error_of: Prediction | None = None) -> Tensor:
        """Factors (B,) that turn squared errors of the velocity into those of what the family predicts.

        Args:
            t: (B,) times.
            error_of: another prediction than the family's own.
        """

    def predicted_frames(self, frames: int, condition: Condition) -> Tensor:
        """Which latent frames of the video the model makes, (F,) bool; the others are no frames to prefer."""

    def condition_fault(
        self,
        latent_shape: Sequence[int],
        image_shape: Sequence[int] | None,
        states_shape: Sequence[int] | None = None,
    ) -> str | None:
        """Why latents with what is given of an image, or without any, cannot be trained on; None = they can.

        Args:
            latent_shape: (C, F, H, W) of a video.
            image_shape: of `Condition.image`.
            states_shape: of `Condition.image_states`.
        """

    def condition(self, frames: Tensor, fps: float) -> Condition:
        """The condition of a video: whatever the family is given of it, encoded.

        Args:
            frames: (T, 3, H, W) uint8.
            fps: frames per second.
        """

    def video_fault(self, frames: int, height: int, width: int) -> str | None:
        """Why a video of this length and size cannot be encoded, with the nearest that can; None = it can."""

    def levels(self, num_steps: int, eta: float, latent_shape: Sequence[int]) -> Tensor:
        """The family's own noise levels of denoising from eta: eta, those of its schedule below, 0.

        Args:
            num_steps: steps of the full schedule.
            eta: the noise level to begin from, in (0, 1].
            latent_shape: (C, F, H, W); some families shift by it.

        Returns:
            (number of steps + 1,) float64, strictly falling.
        """

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
        """Euler steps from the first noise level to the last, without a gradient; frames that are given stay clean.

        Under FSDP2 every rank must take the same number of steps, since weights are gathered by all together.

        Args:
            latents: (B, C, F, H, W) at noise level `sigmas[0]`.
            sigmas: (S + 1,) falling noise levels, as `levels` or `guided_sigmas` make them.
            prompts: B prompts, each by stream.
            conditions: as in `velocity`.
            guidance_scale: of classifier-free guidance; 1 or less = none.
            negative: the prompt to stay away from; None = the empty one.
            rows: rows of a forward at most, of which guidance takes two a video; None = all at once.

        Returns:
            (B, C, F, H, W) float32.
        """

    def encode_video(self, frames: Sequence[Tensor]) -> Tensor:
        """Whole videos to normalised latents, the posterior's mode.

        Args:
            frames: B videos (T, 3, H, W) uint8 of one shape; T is a multiple of the temporal ratio plus 1.

        Returns:
            (B, C, F, h, w) float32.

        Raises:
            ValueError: another number of frames, or a size that does not divide.
        """

    def decode_video(self, latents: Tensor) -> list[Tensor]:
        """(B, C, F, h, w) normalised latents -> B videos (T, 3, H, W) uint8."""

    def encode_prompt(self, prompts: Sequence[str], allow_empty: bool = False) -> list[Prompt]:
        """Prompt embeddings by stream, float32, as many tokens as the model attends to that are no padding.

        Raises:
            ValueError: a prompt is empty and `allow_empty` is not set; only guidance has a use for it.
        """

    def prompt_lengths(self, prompts: Sequence[str]) -> list[int]:
        """Tokens of each prompt as the text encoder's tokenizer counts them, uncut; no weights are loaded for it."""

    def release(self, keep_vae: bool = False) -> None:
        """Free autoencoder and text encoders; they load again when needed.

        Args:
            keep_vae: keep the autoencoder and the image tower, on the CPU, for a caller that needs them again soon.
        """

    def reference_mode(self) -> AbstractContextManager[None]:
        """While it is entered, the module computes as the reference: its frozen adapter, or no adapter at all."""

    def blocks(self) -> Iterator[nn.Module]:
        """The transformer blocks, each a sharding unit."""

    def export(self, folder: Path, state_dict: Mapping[str, Tensor] | None = None) -> None:
        """Write what was trained: an adapter for the family's pipeline, or a model folder for `from_pretrained`."""
