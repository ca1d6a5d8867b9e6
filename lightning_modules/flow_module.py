"""What the methods on a video flow model share: noise a video, predict its velocity, and take each frame's error."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from datamodules.dense.batches import FlowErrors, ItemKind, PairBatch
from datamodules.dense.inputs import Condition, Prompt
from lightning_modules.losses.flow import frame_errors, interpolate, velocity_target
from lightning_modules.policies.transfer import sent
from lightning_modules.policies.video_flow import VideoFlow
from lightning_modules.preference import PreferenceModule


class FlowModule(PreferenceModule):
    """A method whose terms are made of velocity errors on stored latents, at times and under noise from the batch.

    No video is encoded or decoded here and no prompt is embedded: latents, prompt embeddings and conditions come from
    shards, so a step meets neither the autoencoder nor the text encoder. A subclass says what its terms count
    (`items`); the data module makes the denominators from that.
    """

    policy: VideoFlow
    #: Whether the videos of a pair are scored one after the other, so that the activations of one exist at a time.
    videos_in_turn = False

    @abstractmethod
    def items(self) -> dict[str, ItemKind]:
        """What the denominator of each term in use counts."""

    def scores(self, batch: PairBatch, policy: VideoFlow | None = None) -> FlowErrors:
        """The frame errors of both videos of every pair, alike for policy and reference.

        From one forward of 2B videos, or from two of B (`videos_in_turn`). Of the two, backward keeps the second's
        activations and computes the first's when it is done with those.

        Args:
            batch: the batch; both videos of a pair get its one noise and its one time.
            policy: a frozen copy to score with; None = the module's own policy, as it is switched now.
        """
        if self.videos_in_turn:
            shared = (batch.noise, batch.t, batch.prompts, policy, batch.conditions)
            # Backward goes through what was computed last first.
            return FlowErrors(
                checkpoint(self.errors, batch.first, *shared, use_reentrant=False), self.errors(batch.second, *shared)
            )
        clean = torch.cat([batch.first, batch.second])
        noise, t = torch.cat([batch.noise] * 2), torch.cat([batch.t] * 2)
        prompts, conditions = [*batch.prompts] * 2, [*batch.conditions] * 2
        first, second = self.errors(clean, noise, t, prompts, policy, conditions).chunk(2)
        return FlowErrors(first, second)

    def errors(
        self,
        clean: Tensor,
        noise: Tensor,
        t: Tensor,
        prompts: Sequence[Prompt],
        policy: Any = None,
        conditions: Sequence[Condition] = (),
    ) -> Tensor:
        """The velocity error of each latent frame; one that the model need not make has the mean error of the others.

        So a video's mean is that of the frames that the model makes, whatever sums them up.

        Args:
            clean: (N, C, F, H, W) float32 latents.
            noise: like clean.
            t: (N,) float32 times in [0, 1], 1 being noise.
            prompts: N prompts, each by stream.
            policy: as in `scores`.
            conditions: N conditions; none = all frames are made.

        Returns:
            (N, F) float32, whatever the policy computes in.
        """
        # Called, not `.velocity`: a sharded module is entered through its forward.
        model: Any = policy or self.policy
        velocity = model(interpolate(clean, noise, t), t, prompts, conditions)
        errors_NF = frame_errors(velocity, velocity_target(clean, noise))  # noqa: N806
        if not conditions:
            return errors_NF
        frames = errors_NF.shape[1]
        predicted_NF = torch.stack([model.predicted_frames(frames, condition) for condition in conditions])  # noqa: N806
        if predicted_NF.all():  # on the CPU: nothing waits for a GPU
            return errors_NF
        predicted_NF = sent(predicted_NF, errors_NF.device)  # noqa: N806
        mean_N1 = (errors_NF * predicted_NF).sum(1, keepdim=True) / predicted_NF.sum(1, keepdim=True)  # noqa: N806
        return torch.where(predicted_NF, errors_NF, mean_N1)
