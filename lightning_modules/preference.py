"""Base module of every preference method: order of the hooks, named loss terms, optimizer, checkpoints, logging."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from lightning_modules.checkpoints import (
    SETTINGS_KEY,
    keep_trained,
    optimizer_settings,
    require_trained,
    use_configured,
)
from lightning_modules.first_gradients import require_gradients
from lightning_modules.learning_rate import LearningRateSchedule, warmup_factor
from lightning_modules.logged import as_logged
from lightning_modules.policy_loading import load_policy
from lightning_modules.step_losses import StepLosses
from lightning_modules.terms import Term


class Policy(Protocol):
    """A trainable model of any family; `VideoLLM` and `VideoFlow` say how such a family is scored."""

    def load(self) -> None:
        """Bring in weights and adapters."""

    def reference_mode(self) -> AbstractContextManager[None]:
        """While it is entered, the module computes as the reference."""

    def export(self, folder: Path, state_dict: Mapping[str, Tensor] | None = None) -> None:
        """Write what was trained."""


class StepBatch(Protocol):
    """A batch of any family: its samples' keys, which of them are real, and the terms' denominators."""

    keys: list[str]
    mask: Tensor
    denominators: dict[str, float]


class PreferenceModule(LightningModule, ABC):
    """Module of a policy that is trained by a weighted sum of named terms.

    A subclass says how a batch is scored (`scores`, alike for policy and reference) and turns it into terms (`terms`).
    A term's denominator is the number of its items in the whole optimizer step and travels in the batch, so the loss
    does not depend on how a global batch is split over ranks and micro-batches.

    Args:
        policy: the model that is trained; built from its configuration only, weights load in `configure_model`.
        optimizer: makes the optimizer from the trainable parameters.
        schedule: the learning rate after warm-up.
        warmup: over which the learning rate rises linearly from 0: below 1 a share of all optimizer steps, above 1 a
            number of steps.
        weights: the terms and their starting weights.
    """

    def __init__(
        self,
        policy: Policy,
        optimizer: OptimizerCallable,
        schedule: LearningRateSchedule,
        warmup: float,
        weights: dict[str, float],
    ) -> None:
        super().__init__()
        if warmup < 0 or warmup == 1 or (warmup > 1 and warmup != int(warmup)):
            raise ValueError(
                f"warmup is {warmup}; give a share of all steps, a number in [0, 1), or a whole number of steps above 1"
            )
        if negative := {name: weight for name, weight in weights.items() if weight < 0}:
            raise ValueError(f"negative term weights {negative}: give 0 to leave a term out")
        self.policy = policy
        self.optimizer = optimizer
        self.schedule = schedule
        self.warmup = warmup
        self.weights = weights
        #: Terms that a schedule may raise above 0 later; what they need is made from the start.
        self.scheduled: set[str] = set()
        # Checkpoints hold what trains; `on_load_checkpoint` checks what strict loading would have checked.
        self.strict_loading = False
        self._loaded = False
        self._validation: dict[str, MeanMetric] = {}
        #: The optimizer's settings as configured, now and in the checkpoint that the run goes on from.
        self._settings: list[dict[str, Any]] = []
        self._former_settings: list[dict[str, Any]] = []
        self._step_losses = StepLosses()
        #: Items in the loss of this rank since the run began, until the first gradients were checked; then None.
        self._unchecked_items: int | None = 0

    # What a method defines

    @abstractmethod
    def scores(self, batch: Any, policy: Any = None) -> Any:
        """What the terms compare, alike for policy and reference.

        Args:
            batch: of the method's own class.
            policy: a frozen copy to score with; None = the module's own policy, as it is switched now.
        """

    def reference_scores(self, batch: Any, policy: Any = None) -> Any:
        """The scores of what the reference is shown: that which the policy is shown, unless a method says otherwise."""
        return self.scores(batch, policy)

    @abstractmethod
    def terms(self, batch: Any) -> dict[str, Term]:
        """The loss terms of a batch; every term in use is there, also when no sample takes part in it."""

    def active(self) -> tuple[str, ...]:
        """The terms in use: those with a weight, now or by a schedule later."""
        return tuple(name for name, weight in self.weights.items() if weight > 0 or name in self.scheduled)

    # Set-up

    def setup(self, stage: str) -> None:
        """Refuse to train on nothing, before weights are loaded."""
        if stage != "predict" and not self.active():
            raise ValueError(f"no term has a weight: {self.weights}; give at least one of them a weight above 0")

    def configure_model(self) -> None:
        """Load the weights; under FSDP2, sharded from the start. Called again by Lightning for every verb."""
        if self._loaded:
            return
        load_policy(self, self.policy)
        self._loaded = True

    def trainable(self) -> dict[str, nn.Parameter]:
        """The parameters that train, by name."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def configure_optimizers(self) -> Any:
        """The given optimizer over what trains, with the learning-rate schedule in steps."""
        parameters = list(self.trainable().values())
        if not parameters:
            raise ValueError("nothing trains: give the policy a `lora`, or `lora: null` for full fine-tuning")
        # Adapters are float32 whatever the model is; this is full fine-tuning of a 16-bit model.
        rounded = [name for name, values in self.trainable().items() if values.dtype in (torch.bfloat16, torch.float16)]
        if rounded:
            raise ValueError(
                f"{len(rounded)} trainable tensors are of a 16-bit type, in which most steps of a usual learning rate "
                f"round to nothing (the first is {rounded[0]}); set --model.policy.dtype float32 and, to compute in 16 "
                "bits, --trainer.precision bf16-mixed"
            )
        optimizer = self.optimizer(parameters)
        if math.isinf(steps := self.trainer.estimated_stepping_batches):
            raise ValueError("the run has no end; give --trainer.max_steps or --trainer.max_epochs")
        total = int(steps)
        scheduler = LambdaLR(optimizer, lambda step: warmup_factor(step, total, self.warmup, self.schedule))
        self._settings = optimizer_settings(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_start(self) -> None:
        """After a resume, the optimizer has its configured settings."""
        (optimizer,), (config,) = self.trainer.optimizers, self.trainer.lr_scheduler_configs
        use_configured(optimizer, config.scheduler, self._settings, self._former_settings)
        steps, log_interval = int(self.trainer.estimated_stepping_batches), self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if self.trainer.loggers and steps < log_interval:
            rank_zero_warn(
                f"the run has {steps} optimizer steps and losses are logged every {log_interval}: none will be; "
                "lower --trainer.log_every_n_steps"
            )

    # Steps

    def weighted(self, terms: dict[str, Term], batch: StepBatch) -> dict[str, Tensor]:
        """Each term's sum over its items, divided by its items in the whole optimizer step."""
        return {name: term.values.sum() / batch.denominators[name] for name, term in terms.items()}

    def training_step(self, batch: StepBatch, batch_idx: int) -> dict[str, Any]:
        """One micro-batch: the weighted sum of the terms; their detached parts go to the callbacks."""
        terms = self.terms(batch)
        means = self.weighted(terms, batch)
        # Weighted per micro-batch: `LossWeights` changes weights between optimizer steps only.
        loss = torch.stack([self.weights[name] * mean for name, mean in means.items()]).sum()
        self._require_finite(loss, means, batch)
        if self._unchecked_items is not None:
            self._unchecked_items += sum(len(term.samples) for term in terms.values())
        self._step_losses.add(self, loss, means, terms)
        self._step_losses.log(self, len(batch.keys))
        rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        self.log_dict(as_logged({"train/lr": rate}), batch_size=len(batch.keys))
        return {"loss": loss, "terms": {name: term.detach() for name, term in terms.items()}, "keys": batch.keys}

    def on_train_batch_end(self, outputs: Any, batch: StepBatch, batch_idx: int) -> None:
        """Log the losses of a step that a callback has just made the last one, and with it one that is logged."""
        self._step_losses.log(self, len(batch.keys))

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Once: everything that trains must have a gradient, as soon as the loss had anything to prefer."""
        if self._unchecked_items:
            require_gradients(self.trainable())
            self._unchecked_items = None

    def _require_finite(self, loss: Tensor, means: Mapping[str, Tensor], batch: StepBatch) -> None:
        # One number for the device to wait for; the parts are read only for the message.
        if not torch.isfinite(loss):
            parts = ", ".join(f"{name} {float(mean):g}" for name, mean in means.items())
            raise FloatingPointError(
                f"the loss is {float(loss)} ({parts}) at step {self.global_step}; samples of this batch: "
                f"{', '.join(batch.keys)}. Look at these samples, or lower the learning rate"
            )

    def on_validation_epoch_start(self) -> None:
        """Start the means of every term from nothing, also after a validation that broke off."""
        self._validation = {name: MeanMetric().to(self.device) for name in self.active()}
        for metric in self._validation.values():
            # A metric that was never updated warns when it is computed, and a rank may have no such sample.
            metric.update(torch.zeros((), device=self.device), weight=0.0)

    def validation_step(self, batch: StepBatch, batch_idx: int) -> dict[str, Any]:
        """The terms of a batch, averaged over its items at the epoch's end."""
        terms = self.terms(batch)
        # Sums of these items, without denominators: those of a validation are counted by its metrics.
        sums = {name: term.values.sum() for name, term in terms.items()}
        self._require_finite(torch.stack(list(sums.values())).sum(), sums, batch)
        for name, term in terms.items():
            if len(term.samples):
                self._validation[name].update(term.values)
        return {"terms": terms, "keys": batch.keys}

    def on_validation_epoch_end(self) -> None:
        """Log every term's mean over all items and ranks, and their weighted sum; without any item nothing."""
        means = {name: metric.compute() for name, metric in self._validation.items()}
        # 0 / 0 where no rank had an item of the term.
        means = {name: mean for name, mean in means.items() if torch.isfinite(mean)}
        if means:
            total = torch.stack([self.weights[name] * mean for name, mean in means.items()]).sum()
            losses = {"val/loss": total} | {f"val/loss/{name}": mean for name, mean in means.items()}
            self.log_dict(losses, sync_dist=True)

    # Checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what trains, by name: then it loads under any strategy."""
        keep_trained(checkpoint, self, self.trainable())
        checkpoint[SETTINGS_KEY] = self._settings

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that does not hold everything that trains."""
        require_trained(checkpoint, self.trainable())
        self._former_settings = checkpoint.get(SETTINGS_KEY, [])
