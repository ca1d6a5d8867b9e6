"""VistaDPO: preferences at the level of the whole video, the clip and the object (arXiv 2504.13122)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from datamodules.vista.batches import VistaBatch
from datamodules.vista.compared import CONTRASTS
from datamodules.vista.samples import AnswerName, Needs, ViewName
from lightning_modules.answer_module import AnswerModule
from lightning_modules.learning_rate import LearningRateSchedule
from lightning_modules.losses.dpo import dpo_loss
from lightning_modules.losses.vista import response_loss, token_loss
from lightning_modules.policies.video_llm import VideoLLM
from lightning_modules.terms import Term


@dataclass
class VistaWeights:
    """The weight of each term; the defaults are the paper's (lambda 0.4, mu 0.2, rho 0.1). 0 leaves a term out."""

    response: float = 1.0
    video: float = 1.0
    clip: float = 0.4
    object: float = 0.2
    token: float = 0.1


class VistaDPO(AnswerModule):
    """VistaDPO module: L = response + video + 0.4 clip + 0.2 object + 0.1 token, with a gradient through every level.

    Each level is a DPO loss on the chosen answer under a view and under its negative; the response term sets the chosen
    answer against the relevant-but-wrong and the irrelevant one; the token term is TDPO2 on chosen and rejected.
    Plain DPO is the response term alone with `rejected_weight` 1 and `irrelevant_weight` 0.

    Args:
        policy: the video-language model.
        optimizer: makes the optimizer; the paper's learning rate 5e-7 is for full fine-tuning, LoRA wants its own.
        beta: scale of the implicit reward (paper: 0.1).
        weights: the weight of each term (paper's defaults).
        rejected_weight: share of the relevant-but-wrong answer in the response term (paper: 0.7).
        irrelevant_weight: share of the irrelevant answer (paper: 0.3); 0 leaves that answer out.
        alpha: weight of the rejected answer's sequential KL in the token term (TDPO2: 0.5).
        schedule: the learning rate after warm-up (released script: linear).
        warmup: share of steps with rising learning rate (released script: 0.1).
    """

    def __init__(
        self,
        policy: VideoLLM,
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=5e-7, weight_decay=0.0),
        beta: float = 0.1,
        weights: VistaWeights = VistaWeights(),  # noqa: B008  # read, never written
        rejected_weight: float = 0.7,
        irrelevant_weight: float = 0.3,
        alpha: float = 0.5,
        schedule: LearningRateSchedule = "linear",
        warmup: float = 0.1,
    ) -> None:
        super().__init__(policy, optimizer, schedule, warmup, asdict(weights))
        if beta <= 0:
            raise ValueError(f"beta is {beta}; give a positive number (the paper's is 0.1)")
        self.beta = beta
        self.rejected_weight = rejected_weight
        self.irrelevant_weight = irrelevant_weight
        self.alpha = alpha

    def needs(self) -> Needs:
        """The views and answers of the terms in use; one of weight 0 asks for nothing."""
        active = self.active()
        answers: dict[ViewName, list[AnswerName]] = {}
        if {"response", "token"} & set(active):
            answers["original"] = ["chosen", "rejected"]
        if "response" in active and self.irrelevant_weight > 0:
            answers["original"].append("irrelevant")
        for term, views in CONTRASTS.items():
            if term in active:
                for view in views:
                    # The original video has the chosen answer already where another term asked for it.
                    answers.setdefault(view, ["chosen"])
        return {view: tuple(names) for view, names in answers.items()}

    def kept_hidden(self) -> tuple[tuple[ViewName, AnswerName], ...]:
        """The token term compares distributions, so it asks for the hidden states of both of its answers."""
        return (("original", "chosen"), ("original", "rejected")) if "token" in self.active() else ()

    def terms(self, batch: VistaBatch) -> dict[str, Term]:
        """The terms in use. Shapes: A answers of the batch, n samples that take part in a term."""
        if batch.reference is None:
            raise ValueError("the batch has no reference scores: add callbacks.ReferenceModel to trainer.callbacks")
        policy = self.scores(batch)
        rewards = policy.log_probs - batch.reference.log_probs
        active, terms = self.active(), {}
        if "response" in active:
            terms["response"] = self._response(batch, rewards)
        for name in CONTRASTS:
            if name in active:
                terms[name] = self._contrast(batch, rewards, name)
        if "token" in active:
            # The head of the reference, where it is a copy with one of its own.
            kl = self.policy.kl(batch.reference, policy, batch.reference_head)
            terms["token"] = self._token(batch, rewards, kl)
        return terms

    def _response(self, batch: VistaBatch, rewards: Tensor) -> Term:
        """The chosen answer against the weighted wrong ones; without an irrelevant answer the rejected one counts 1."""
        samples, rows = batch.compared("response")
        chosen, rejected, irrelevant = rewards[rows].unbind()
        # A sample without an irrelevant answer has the row of its rejected one in its place, with weight 0.
        has_irrelevant = rows[2] != rows[1]
        # Where the method scores no irrelevant answers at all, the configured weight holds for every sample.
        alone = 1.0 if self.irrelevant_weight > 0 else self.rejected_weight
        rejected_weight = torch.where(has_irrelevant, self.rejected_weight, alone)
        irrelevant_weight = torch.where(has_irrelevant, self.irrelevant_weight, 0.0)
        values = response_loss(chosen, rejected, irrelevant, self.beta, rejected_weight, irrelevant_weight)
        rejected = rejected_weight * rejected + irrelevant_weight * irrelevant
        return self._term(values, samples, chosen, rejected)

    def _contrast(self, batch: VistaBatch, rewards: Tensor, name: str) -> Term:
        """The chosen answer under a view against the same answer under the view's negative."""
        samples, rows = batch.compared(name)
        chosen, rejected = rewards[rows].unbind()
        return self._term(dpo_loss(chosen, rejected, self.beta), samples, chosen, rejected)

    def _token(self, batch: VistaBatch, rewards: Tensor, kl: Tensor) -> Term:
        """TDPO2 on chosen and rejected; its reward adds the sequential KL, as TDPO logs it."""
        samples, rows = batch.compared("token")
        (chosen, rejected), (chosen_kl, rejected_kl) = rewards[rows].unbind(), kl[rows].unbind()
        values = token_loss(chosen, rejected, chosen_kl, rejected_kl, self.beta, self.alpha)
        return self._term(values, samples, chosen + chosen_kl, rejected + rejected_kl)

    def _term(self, values: Tensor, samples: list[int], chosen: Tensor, rejected: Tensor) -> Term:
        return Term(values, samples, self.beta * chosen.detach(), self.beta * rejected.detach())
