"""Supervised fine-tuning of a video flow model on real videos: the baseline that the paper calls SFT."""

from __future__ import annotations

import torch
from lightning.pytorch.cli import OptimizerCallable

from datamodules.dense.batches import ItemKind, LatentBatch
from datamodules.dense.inputs import Prompt
from lightning_modules.flow_module import FlowModule
from lightning_modules.learning_rate import LearningRateSchedule
from lightning_modules.policies.video_flow import VideoFlow
from lightning_modules.terms import Term


class SupervisedFlow(FlowModule):
    """Supervised module of a flow model: the mean velocity error on encoded real videos, each counting the same.

    Args:
        policy: the video flow model.
        optimizer: makes the optimizer (ours: 1e-4, usual for LoRA; the paper says LoRA and 5000 steps only).
        schedule: the learning rate after warm-up.
        warmup: steps with rising learning rate, or below 1 a share of all steps (ours: as DenseDPO).
    """

    def __init__(
        self,
        policy: VideoFlow,
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=1e-4, weight_decay=0.0),
        schedule: LearningRateSchedule = "constant",
        warmup: float = 250,
    ) -> None:
        super().__init__(policy, optimizer, schedule, warmup, {"supervised": 1.0})
        self._empty_prompt: Prompt | None = None

    def on_fit_start(self) -> None:
        """Embed the empty prompt once, where the data drops prompts; no step meets the text encoder."""
        if getattr(self.trainer.datamodule, "drop_prompts", 0.0) > 0:  # type: ignore[attr-defined]
            self._empty_prompt = self.policy.encode_prompt([""], allow_empty=True)[0]
            self.policy.release()

    def items(self) -> dict[str, ItemKind]:
        """Every video is one item."""
        return {"supervised": "samples"}

    def terms(self, batch: LatentBatch) -> dict[str, Term]:
        """The one term: (n,) the error of each video that is no padding, over all of its latent frames."""
        # A dropped prompt arrives with no token; the model's own empty prompt has some.
        empty = self._empty_prompt
        prompts = [prompt if len(prompt) or empty is None else empty for prompt in batch.prompts]
        errors_BF = self.errors(batch.clean, batch.noise, batch.t, prompts, conditions=batch.conditions)  # noqa: N806
        return {"supervised": Term(errors_BF.mean(-1)[batch.items["samples"]], batch.item_samples["samples"])}
