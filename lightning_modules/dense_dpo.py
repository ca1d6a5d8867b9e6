"""DenseDPO: preferences of a video flow model, one for each segment of a video (arXiv 2506.03517)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from datamodules.dense.batches import FlowErrors, ItemKind, PairBatch
from datamodules.dense.segments import Granularity
from lightning_modules.flow_module import FlowModule
from lightning_modules.learning_rate import LearningRateSchedule
from lightning_modules.losses.flow import DenseForm, dense_dpo_loss, dense_rewards, flow_dpo_loss, flow_rewards
from lightning_modules.policies.video_flow import Prediction, VideoFlow
from lightning_modules.terms import Term


@dataclass(slots=True)
class FlowTerm(Term):
    """The preference term, with what tells a healthy run from a runaway.

    Attributes:
        times: (n,) the noise level of each value's pair.
        winner_errors: (m,) policy minus reference, the velocity error of the better video's preferred latent frames.
        loser_errors: (m,) likewise of the worse video's, the same frames.
    """

    times: Tensor | None = None
    winner_errors: Tensor | None = None
    loser_errors: Tensor | None = None


class DenseDPO(FlowModule):
    """-log sigmoid(-beta / 2 * label * (s_first - s_second)) for every latent frame that is not a tie.

    A video's s is its velocity error under the policy minus that under the reference, at one time and under one noise
    for both videos of the pair. The paper's three methods are one: vanilla DPO is `granularity: whole` on independent
    pairs, structural DPO the same on guided pairs, DenseDPO is `granularity: segments` on guided pairs.

    The errors are of what the model's family predicts (`VideoFlow.error_weight`); those of the noise make it
    Diffusion-DPO. For flow models the paper takes velocities at a constant beta, after Flow-DPO, where the factor of
    the noise, (1 - t)^2, did worse.

    Args:
        policy: the video flow model.
        optimizer: makes the optimizer (paper: AdamW, 1e-5; weight decay is left open, ours is 0).
        beta: scale of the implicit reward (paper: 500).
        granularity: one label for each segment, or one for the video.
        form: for segments, one sigmoid for each latent frame (the paper's appendix E), or one for each pair over the
            sum of its segments, without the one-half (its equation 7).
        error_of: what the preference's errors are of; None = what the policy's family predicts.
        videos: both videos of a pair in one forward, or one after the other: the activations of one video exist at a
            time, and the policy's forward of the first is computed once more in backward.
        supervised_weight: weight of the term "supervised", the velocity error of the better video on its preferred
            frames, against a policy that lowers the worse video's likelihood only (paper: none).
        schedule: the learning rate after warm-up (paper: left open).
        warmup: steps with rising learning rate (paper: 250 of 1000), or below 1 a share of all steps.
    """

    def __init__(
        self,
        policy: VideoFlow,
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=1e-5, weight_decay=0.0),
        beta: float = 500.0,
        granularity: Granularity = "segments",
        form: DenseForm = "per_frame",
        error_of: Prediction | None = None,
        videos: Literal["together", "in_turn"] = "together",
        supervised_weight: float = 0.0,
        schedule: LearningRateSchedule = "constant",
        warmup: float = 250,
    ) -> None:
        weights = {"preference": 1.0, "supervised": supervised_weight}
        super().__init__(policy, optimizer, schedule, warmup, weights)
        if beta <= 0:
            raise ValueError(f"beta is {beta}; give a positive number (the paper's is 500)")
        if granularity == "whole" and form != "per_frame":
            raise ValueError(f"form {form} is one of segments; with granularity: whole a pair has one sigmoid")
        self.beta = beta
        self.granularity = granularity
        self.form: DenseForm = form
        self.error_of: Prediction = error_of or policy.prediction
        self.videos_in_turn = videos == "in_turn"

    def items(self) -> dict[str, ItemKind]:
        """What each term's denominator counts: the values of the term."""
        dense: ItemKind = "decided_frames" if self.form == "per_frame" else "decided_pairs"
        kinds: dict[str, ItemKind] = {
            "preference": dense if self.granularity == "segments" else "decided_videos",
            "supervised": "decided_frames" if self.granularity == "segments" else "decided_videos",
        }
        return {name: kinds[name] for name in self.active()}

    def terms(self, batch: PairBatch) -> dict[str, Term]:
        """The terms in use. Of ties alone they are empty, a loss of exactly 0 that has a graph."""
        if batch.reference is None:
            raise ValueError("the batch has no reference errors: add callbacks.ReferenceModel to trainer.callbacks")
        policy, terms = self.scores(batch), {}
        if "preference" in self.active():
            terms["preference"] = self._preference(batch, policy, batch.reference)
        if "supervised" in self.active():
            terms["supervised"] = self._supervised(batch, policy)
        return terms

    def _preference(self, batch: PairBatch, policy: FlowErrors, reference: FlowErrors) -> Term:
        """One value for each sigmoid; its rewards are what the better and the worse video bring into it."""
        labels, form, segments = self._labels_of(batch), self.form, batch.segments
        whole, kind = self.granularity == "whole", self.items()["preference"]
        ours, theirs = self._compared(policy, batch.t), self._compared(reference, batch.t)
        errors = (ours.first, ours.second, theirs.first, theirs.second)
        if whole:
            values = flow_dpo_loss(*errors, batch.preference, self.beta, reduction="none")
        else:
            values = dense_dpo_loss(*errors, labels, self.beta, form, segments, reduction="none")
        items = batch.items[kind]
        times = batch.t if values.ndim == 1 else batch.t[:, None].expand_as(values)
        with torch.no_grad():
            policy_sides = _ranked(ours.first, ours.second, labels)
            sides = zip(policy_sides, _ranked(theirs.first, theirs.second, labels), strict=True)
            if whole:
                chosen, rejected = (flow_rewards(*side, self.beta) for side in sides)
            else:
                chosen, rejected = (dense_rewards(*side, labels != 0, self.beta, form, segments) for side in sides)
            # Logged as velocity errors, whatever the loss compares, so that runs with both can be set side by side.
            gaps = _ranked(policy.first - reference.first, policy.second - reference.second, labels)
            decided = batch.items["decided_videos" if whole else "decided_frames"]
            winner, loser = (gap[decided].flatten() if whole else _selected(gap, decided) for gap in gaps)
        return FlowTerm(
            values=_selected(values, items),
            samples=batch.item_samples[kind],
            chosen_rewards=_selected(chosen, items),
            rejected_rewards=_selected(rejected, items),
            draw=0.5,
            times=_selected(times, items),
            winner_errors=winner,
            loser_errors=loser,
        )

    def _supervised(self, batch: PairBatch, policy: FlowErrors) -> Term:
        """The better video's velocity error: of each frame that its segment prefers, or the mean over the video."""
        kind = self.items()["supervised"]
        errors = _ranked(policy.first, policy.second, self._labels_of(batch))[0]
        if self.granularity == "whole":
            errors = errors.mean(-1)
        return Term(_selected(errors, batch.items[kind]), batch.item_samples[kind])

    def _labels_of(self, batch: PairBatch) -> Tensor:
        """(B, F) the label that each latent frame trains on."""
        whole = batch.preference.unsqueeze(-1).expand_as(batch.labels)
        return whole if self.granularity == "whole" else batch.labels

    def _compared(self, velocity: FlowErrors, t_B: Tensor) -> FlowErrors:  # noqa: N803
        """The errors that the preference compares, from those of the velocity."""
        weight_B1 = self.policy.error_weight(t_B, self.error_of).unsqueeze(-1)  # noqa: N806
        return FlowErrors(weight_B1 * velocity.first, weight_B1 * velocity.second)


def _ranked(first: Tensor, second: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The better and the worse video's (B, F) values, frame by frame; at a tie in any order."""
    return torch.where(labels > 0, first, second), torch.where(labels > 0, second, first)


def _selected(values: Tensor, items: Tensor) -> Tensor:
    """(n,) the items of (B,) or (B, F) values: by position, since a device would have to count those of a mask."""
    return values.flatten()[items]
