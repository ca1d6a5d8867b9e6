"""Supervised fine-tuning on the chosen answers: the baseline of both papers, and what the toy world is made with."""

from __future__ import annotations

import torch
from lightning.pytorch.cli import OptimizerCallable

from datamodules.vista.batches import VistaBatch
from datamodules.vista.samples import Needs
from lightning_modules.answer_module import AnswerModule
from lightning_modules.learning_rate import LearningRateSchedule
from lightning_modules.policies.video_llm import VideoLLM
from lightning_modules.terms import Term


class Supervised(AnswerModule):
    """Supervised module: mean negative log-likelihood per token of the chosen answer, averaged over samples.

    Every sample counts the same, however long its answer is, so that a one-word "No." teaches as much as a sentence.

    Args:
        policy: the video-language model; for training from scratch with `train_tower` and `train_projector`.
        optimizer: makes the optimizer (ours: LLaVA's fine-tuning rate, 2e-5).
        schedule: the learning rate after warm-up.
        warmup: share of steps with rising learning rate (LLaVA: 0.03).
    """

    has_reference = False

    def __init__(
        self,
        policy: VideoLLM,
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=2e-5, weight_decay=0.0),
        schedule: LearningRateSchedule = "cosine",
        warmup: float = 0.03,
    ) -> None:
        super().__init__(policy, optimizer, schedule, warmup, {"supervised": 1.0})

    def needs(self) -> Needs:
        """The chosen answer under the original video."""
        return {"original": ("chosen",)}

    def terms(self, batch: VistaBatch) -> dict[str, Term]:
        """The one term: (n,) mean token negative log-likelihood of each sample's answer."""
        scores = self.scores(batch)
        samples, (rows,) = batch.compared("supervised")
        return {"supervised": Term(-scores.log_probs[rows] / scores.num_tokens[rows], samples)}
