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
  converts on the way in and out, and says ``prediction = "noise"``: errors of preference losses are then those of the
  noise, (1 - t)^2 times those of the velocity, which is Diffusion-DPO;
- tokeniser, text encoder, the length prompts are padded to and what padding holds; the autoencoder and the
  normalisation of its latents.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, Protocol

from torch import Tensor, nn

from datamodules.dense.rows import LatentSpace

#: What a family predicts, and so what its errors are of.
Prediction = Literal["velocity", "noise"]


class VideoFlow(Protocol):
    """One model family. An `nn.Module` whose constructor reads configuration only; `load` brings the weights.

    Only the denoiser is a part of the module: it alone is trained, sharded and saved. Autoencoder and text encoder are
    no sub-modules; they load when a method first needs them, so that training on stored latents and embeddings never
    sees them. Under FSDP2 the module is entered only through `forward` (which is `velocity`) and `entry_points`.

    Attributes:
        entry_points: methods, besides `forward`, through which a sharded module may be entered.
        model: the denoiser with its adapters, None until `load`.
        prediction: what the family's errors are of.
        prompt_length: tokens to which prompts are padded.
    """

    entry_points: tuple[str, ...]
    model: nn.Module | None
    prediction: Prediction
    prompt_length: int

    def load(self, meta: bool = False) -> None:
        """Bring in the denoiser and its adapters; idempotent.

        Args:
            meta: build on the meta device and read no weights: `sharding.load_sharded` does that later.
        """

    @property
    def latent_space(self) -> LatentSpace:
        """Where the latents live; of the autoencoder nothing is loaded for it."""

    @property
    def prompt_width(self) -> int:
        """Numbers in a token's embedding, D."""

    @property
    def times(self) -> tuple[float, float]:
        """Lowest and highest t for which this denoiser is made; (0, 1) unless it is one of several experts."""

    def velocity(self, noisy: Tensor, t: Tensor, prompts: Sequence[Tensor]) -> Tensor:
        """The predicted velocity noise - x.

        Args:
            noisy: (B, C, F, H, W) latents x_t.
            t: (B,) float32 times in [0, 1]; never a 16-bit type, in which 0.7312 is 0.73.
            prompts: B prompt embeddings (n_i, D) without padding.

        Returns:
            (B, C, F, H, W) float32.

        Raises:
            ValueError: `t` has lost its precision, or the embeddings do not fit.
        """

    def denoise(
        self,
        latents: Tensor,
        sigmas: Tensor,
        prompts: Sequence[Tensor],
        guidance_scale: float,
        negative: Tensor | None = None,
    ) -> Tensor:
        """Euler steps from the first noise level to the last, without a gradient.

        Under FSDP2 every rank must take the same number of steps, since weights are gathered by all together.

        Args:
            latents: (B, C, F, H, W) at noise level `sigmas[0]`.
            sigmas: (S + 1,) falling noise levels, as `guided_sigmas` makes them.
            prompts: B prompt embeddings (n_i, D) without padding.
            guidance_scale: of classifier-free guidance; 1 or less = none.
            negative: (n, D) embedding of what to stay away from; None = that of the empty prompt.

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

    def encode_prompt(self, prompts: Sequence[str], allow_empty: bool = False) -> list[Tensor]:
        """Prompt embeddings (n_i, D) float32, n_i being the prompt's tokens with the end of text, without padding.

        Raises:
            ValueError: a prompt is empty and `allow_empty` is not set; only guidance has a use for it.
        """

    def prompt_lengths(self, prompts: Sequence[str]) -> list[int]:
        """Tokens of each prompt as the text encoder's tokenizer counts them, uncut; no weights are loaded for it."""

    def release(self) -> None:
        """Free autoencoder and text encoder; they load again when needed."""

    def reference_mode(self) -> AbstractContextManager[None]:
        """While it is entered, the module computes as the reference: its frozen adapter, or no adapter at all."""

    def blocks(self) -> Iterator[nn.Module]:
        """The transformer blocks, each a sharding unit."""

    def export(self, folder: Path, state_dict: Mapping[str, Tensor] | None = None) -> None:
        """Write what was trained: an adapter for the family's pipeline, or a model folder for `from_pretrained`."""
