"""What the modules that sample from a flow policy share: loading it, prompts, noise with a seed of its own, denoising.

Whatever is random about a sample is drawn from the run's seed and the sample's own name, and a sample passes the
transformer by itself: the result depends neither on the number of ranks nor on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor

from datamodules.dense.inputs import Condition, Prompt
from datamodules.stream.draws import generator
from lightning_modules.policies.euler import guided_sigmas
from lightning_modules.policies.video_flow import VideoFlow
from lightning_modules.policy_loading import load_policy, policy_settings, settings_and_contents, weights_of
from lightning_modules.predict.cut_prompts import warn_of_cut_prompts
from lightning_modules.predict.embedded_prompts import EmbeddedPrompts


def video_seed(seed: int, name: str, purpose: str) -> int:
    """The seed of one video's noise, from the run's seed, the sample's name and which of its videos it is."""
    # Below 2^53: every reader of JSON keeps it exactly.
    return int(generator(seed, name, purpose).integers(2**53))


def seeded_noise(seed: int, shape: Sequence[int]) -> Tensor:
    """Standard normal noise of any shape, float32 on the CPU: the same numbers on every machine."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(tuple(shape), dtype=np.float32))


class FlowSampler(LightningModule):
    """A policy that denoises; a subclass says from where, and what becomes of it.

    Args:
        policy: the model, with or without an adapter (``policy.adapter``).
        num_steps: steps of the full schedule.
        flow_shift: of the schedule towards noise, see `shift_time`; None = the family's own noise levels.
        guidance_scale: of classifier-free guidance, 1 and below is without; or the input of a model that takes one.
        negative_prompt: what guidance leads away from.
        seed: of everything random.
        denoise_rows: rows that pass the transformer at once, of which guidance takes two a video: fewer take less
            memory and more time.
    """

    def __init__(
        self,
        policy: VideoFlow,
        num_steps: int,
        flow_shift: float | None,
        guidance_scale: float,
        negative_prompt: str,
        seed: int,
        denoise_rows: Literal[1, 2, 4] = 4,
    ) -> None:
        super().__init__()
        if num_steps < 1 or (flow_shift is not None and flow_shift <= 0) or seed < 0:
            raise ValueError(
                f"num_steps {num_steps} and flow_shift {flow_shift} must be positive, and seed {seed} not be negative"
            )
        self.policy = policy
        self.num_steps = num_steps
        self.flow_shift = flow_shift
        self.guidance_scale = guidance_scale
        self.negative_prompt = negative_prompt
        self.seed = seed
        self.denoise_rows = denoise_rows
        self._loaded = False
        self._negative: Prompt | None = None
        self._prompts = EmbeddedPrompts(policy)

    def configure_model(self) -> None:
        """Load the transformer; under FSDP2, sharded from the start."""
        if not self._loaded:
            load_policy(self, self.policy)
            self._loaded = True

    def on_predict_start(self) -> None:
        """Say which prompts are cut, before the first video."""
        guide = [("negative_prompt", self.negative_prompt)] if self._leads_away else []
        self._prompts.expect(self.trainer)
        warn_of_cut_prompts(self.trainer, self.policy, guide, self._prompts.named)

    def on_predict_end(self) -> None:
        """Free autoencoder and text encoders."""
        self.policy.release()

    @property
    def sharded(self) -> bool:
        """Whether every forward needs all ranks, so that masked slots are denoised too."""
        return isinstance(self.trainer.strategy, ModelParallelStrategy)

    def settings(self) -> dict[str, Any]:
        """What the samples depend on, in plain JSON types: a run is continued only with the same."""
        return {
            "module": type(self).__qualname__,
            "num_steps": self.num_steps,
            "shift": self.flow_shift,
            "guidance_scale": self.guidance_scale,
            "negative_prompt": self.negative_prompt,
            "seed": self.seed,
            "policy": settings_and_contents(self.policy),
            "trained": weights_of(self.policy),
        }

    def sampler(self) -> dict[str, Any]:
        """The settings that every sample's own row repeats."""
        policy = policy_settings(self.policy)
        return {
            "shift": self.flow_shift,
            "guidance_scale": self.guidance_scale,
            "negative_prompt": self.negative_prompt,
            "checkpoint": policy.get("path"),
            "adapter": policy.get("adapter"),
        }

    def prompt(self, text: str) -> Prompt:
        """The embeddings of a prompt.

        Raises:
            ValueError: it is empty.
        """
        self._guide()  # with the first prompts, so that the text encoders load once for both
        return self._prompts.of(text)

    def levels(self, eta: float, latent_shape: Sequence[int]) -> Tensor:
        """The noise levels of denoising from eta: by `flow_shift`, or the family's own."""
        if self.flow_shift is None:
            return self.policy.levels(self.num_steps, eta, latent_shape)
        return guided_sigmas(self.num_steps, eta, self.flow_shift)

    def denoised(self, latents: Tensor, sigmas: Tensor, prompt: Prompt, condition: Condition, name: str) -> Tensor:
        """Run the one Euler loop on the videos of one sample, with autoencoder and text encoders out of the way.

        Args:
            latents: (n, C, F, H, W) at noise level ``sigmas[0]``.
            sigmas: (S + 1,) falling to 0.
            prompt: one for all n.
            condition: one for all n.
            name: the sample's, for the error.

        Returns:
            (n, C, F, H, W) clean latents.

        Raises:
            FloatingPointError: they are not finite.
        """
        if self.sharded:
            # Ranks make their forwards together, so all need as many: steps from 0 to 0 change nothing.
            sigmas = F.pad(sigmas, (0, self._longest() - len(sigmas)))
        count, scale, negative = len(latents), self.guidance_scale, self._guide()
        if self.policy.embeds_guidance:
            condition, scale = replace(condition, guidance=scale), 1.0
        # Before the loop, which takes the most memory of the run; the autoencoder is needed again right after it.
        self.policy.release(keep_vae=True)
        clean = self.policy.denoise(
            latents, sigmas, [prompt] * count, [condition] * count, scale, negative, self.denoise_rows
        )
        # Per sample: a black video in a folder of thousands would be noticed by nobody.
        if not torch.isfinite(clean).all():
            raise FloatingPointError(
                f"sample {name!r}: denoising ended in values that are not finite; look at the adapter, or compute in "
                "another precision (policy.dtype, trainer.precision)"
            )
        return clean

    def _longest(self) -> int:
        """The most noise levels of any sample of this run."""
        return self.num_steps + 1

    @property
    def _leads_away(self) -> bool:
        """Whether samples are guided away from the negative prompt, by a second row."""
        return self.guidance_scale > 1 and not self.policy.embeds_guidance

    def _guide(self) -> Prompt | None:
        """What guidance leads away from, embedded once; None without such guidance."""
        if self._leads_away and self._negative is None:
            self._negative = self.policy.encode_prompt([self.negative_prompt], allow_empty=True)[0]
        return self._negative
