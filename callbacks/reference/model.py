"""The callback that puts the reference's scores into batches, so that no training step has to get them."""

from __future__ import annotations

from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy

from callbacks.reference.cached_source import CachedSource
from callbacks.reference.guard import Guard
from callbacks.reference.live_sources import AdapterSource, CopySource, trained_outside_adapters
from callbacks.reference.probes import PROBES, Probe, ProbeScores, Score, probe_of
from callbacks.reference.remembered import RememberedSource
from callbacks.reference.sources import SPLITS, ReferenceSource, ReferenceSplit, gathered
from lightning_modules.preference import PreferenceModule

#: By how much one forward may differ from an equal one: nats per token, or a share of a velocity error.
TOLERANCE = 1e-3
#: The same where batch, hardware or kernel may be another and numbers are not float32 on a CPU.
LOOSE_TOLERANCE = 5e-2


class ReferenceModel(Callback):
    """Reference model callback: puts the reference's scores into every batch before its step.

    The modes:

    - ``adapter``: the policy with its adapters off or, when it was started from a trained adapter, with a frozen copy
      of that one. Costs next to no memory.
    - ``copy``: a frozen second model, for full fine-tuning. It is loaded from the policy's own configuration, so it has
      the starting weights also when the run resumes from a checkpoint, and no checkpoint holds it.
    - ``cached``: what `vidpref predict` with `ReferenceCacheWriter` wrote. Costs no forward. For answers only: the
      errors of a flow model hang on time and noise, which are drawn again in every epoch.
    - ``remember``: as ``adapter`` in the first epoch, whose scores are kept in side shards as they are made; from then
      on as ``cached``, without a pass beforehand. For answers only, and where views repeat. A run that goes on, and
      another one of the same views and policy, reads what is there; ranks share it. Memory is written in portions,
      after each epoch and validation, with each checkpoint and when the run stops.

    Scores come without a graph and in the precision of the step: hooks run outside autocast, and with another precision
    policy and reference would differ at the start.

    The guard keeps one small sample with the reference's scores of it. It scores the sample again every
    `guard_every_n_steps`, at the start of each validation and after a resume, and stops the run when a score moved,
    without a refresh, by more than 1e-3 nats per token, or of a flow model by more than 1e-3 of a velocity error (after
    a resume 5e-2, unless in float32 on a CPU). A cache is compared with the live policy before the first step, with the
    same bounds.

    Args:
        mode: see above.
        cache: for ``cached``, the index of the training shards' cache, or several, of the validation shards too. For
            ``remember``, the folder of the side shards, on a file system that all ranks see; None =
            ``reference_scores`` in `trainer.default_root_dir`.
        refresh_every_n_steps: make the reference follow the policy every N optimizer steps; None = never.
        refresh_decay: 0 replaces the reference by the policy; above, it keeps this share of itself, a moving average
            of the weights (of an adapter's two factors, each by itself). A checkpoint holds the refreshed weights.
        guard_every_n_steps: optimizer steps between two checks by the guard; 0 = at validation and resume only.
    """

    def __init__(
        self,
        mode: Literal["adapter", "copy", "cached", "remember"] = "adapter",
        cache: str | list[str] | None = None,
        refresh_every_n_steps: int | None = None,
        refresh_decay: float = 0.0,
        guard_every_n_steps: int = 500,
    ) -> None:
        if mode == "remember":
            if isinstance(cache, list):
                raise ValueError(f"ReferenceModel: mode is remember, cache is {cache!r}; give one folder, or none")
        elif (mode == "cached") != bool(cache):
            raise ValueError(
                f"ReferenceModel: mode is {mode}, cache is {cache!r}; `cache` goes with mode cached only, or as a "
                "folder with remember"
            )
        if refresh_every_n_steps is not None and (mode in ("cached", "remember") or refresh_every_n_steps < 1):
            raise ValueError(
                f"ReferenceModel: mode is {mode}, refresh_every_n_steps is {refresh_every_n_steps}; give 1 or more, "
                "and mode adapter or copy, since cached scores are those of the starting weights"
            )
        if not 0.0 <= refresh_decay < 1.0:
            raise ValueError(f"ReferenceModel: refresh_decay is {refresh_decay}; give a number in [0, 1)")
        self.mode = mode
        self.refresh_every_n_steps = refresh_every_n_steps
        self.refresh_decay = refresh_decay
        self.guard_every_n_steps = guard_every_n_steps
        self.source: ReferenceSource
        match mode:
            case "adapter":
                self.source = AdapterSource(refresh_every_n_steps is not None)
            case "copy":
                self.source = CopySource()
            case "cached":
                self.source = CachedSource([cache] if isinstance(cache, str) else list(cache or ()))
            case "remember":
                self.source = RememberedSource(cache if isinstance(cache, str) else None)
        self.guard = Guard()
        self._module: PreferenceModule | None = None
        self._resumed: dict[str, Any] = {}
        self._started = False
        # The optimizer steps that the guard saw last, and of the last refresh; -1 = there was none.
        self._guarded_step = self._refreshed_step = -1

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Prepare the source, before any weight is loaded."""
        if isinstance(pl_module, PreferenceModule) and stage != "predict":
            self._module = pl_module
            self.source.setup(trainer, pl_module)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse before the first step whatever can be refused."""
        for split in SPLITS if trainer.limit_val_batches else SPLITS[:1]:
            self.source.prepare(trainer, _preference(pl_module), split)
        self._started = False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Refresh if it is due, check that the reference did not move, and put its scores into the batch."""
        module, step = _preference(pl_module), trainer.global_step
        self._resume(trainer, module)
        # All micro-batches of an optimizer step have the same number: a refresh, and a check, comes with the first.
        every = self.refresh_every_n_steps
        if every and step and step % every == 0 and step != self._refreshed_step:
            self.source.refresh(module, self.refresh_decay)
            self._refreshed_step = step
            self.guard.remember(self._scorer(trainer, module))
        if not self._started:
            self._start(trainer, module, batch)
        elif self.guard_every_n_steps and step % self.guard_every_n_steps == 0 and step != self._guarded_step:
            self.guard.check(self._scorer(trainer, module), TOLERANCE)
        self._guarded_step = step
        self._fill(trainer, module, batch, "train")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that the reference did not move since training began."""
        module = _preference(pl_module)
        # Also here: `validate` has no fit that would have prepared the source.
        self.source.prepare(trainer, module, "val")
        self._resume(trainer, module)
        self.guard.check(self._scorer(trainer, module), TOLERANCE)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Put the reference's scores into the batch."""
        self._fill(trainer, _preference(pl_module), batch, "val")

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Put the reference's scores into a batch of preferences; a benchmark's batch has no need of them."""
        if isinstance(pl_module, PreferenceModule) and isinstance(batch, tuple(PROBES)):
            self.source.prepare(trainer, pl_module, "val")
            self._resume(trainer, pl_module)
            self._fill(trainer, pl_module, batch, "val")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the ranks read each other's scores."""
        self.source.share(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the validation's scores."""
        self.source.keep()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write what no epoch has written."""
        self.source.keep()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """The same for a run that is stopped; Lightning tears nothing down after an error."""
        self.source.keep()

    # Checkpoints

    def state_dict(self) -> dict[str, Any]:
        """The refreshed weights and the guard's view, as plain types and tensors; all ranks call it together."""
        self.source.keep()
        if self._resumed or self._module is None:
            return dict(self._resumed)
        state: dict[str, Any] = {"guard": self.guard.state(), "refreshed": self._refreshed_step}
        if self._refreshed_step >= 0:
            state["tensors"] = gathered(self.source.tensors(self._module))
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state until the weights are there."""
        self._resumed = state_dict

    def _resume(self, trainer: Trainer, module: PreferenceModule) -> None:
        """Put the refreshed reference back, then check that it is the interrupted run's; once, at the first batch."""
        state, self._resumed = self._resumed, {}
        if not state:
            return
        self._refreshed_step = state["refreshed"]
        if self._refreshed_step >= 0:
            self.source.restore(module, state["tensors"])
        if self.mode == "cached":
            return  # nothing to watch: stored scores do not move
        self.guard.load(state["guard"])
        self.guard.check(self._scorer(trainer, module), _tolerance_elsewhere(trainer, module))
        self.guard.remember(self._scorer(trainer, module))

    # Scores

    def _fill(self, trainer: Trainer, module: PreferenceModule, batch: Any, split: ReferenceSplit) -> None:
        # A hook runs outside the step's autocast; in another precision policy and reference would differ at the start.
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            batch.reference, head = self.source.scores(module, batch, split)
        if head is not None:
            batch.reference_head = head

    def _scorer(self, trainer: Trainer, module: PreferenceModule, source: ReferenceSource | None = None) -> Score:
        """Scores a probe that may lie on another device, by a forward if the mode has one."""

        def score(probe: Probe[Any]) -> ProbeScores:
            with torch.no_grad(), trainer.precision_plugin.forward_context():
                scores, _ = (source or self.source.live).scores(module, probe.on(module.device), "train")
            return probe.recorded(scores)

        return score

    def _start(self, trainer: Trainer, module: PreferenceModule, batch: Any) -> None:
        """Let the guard watch; stored scores cannot move: they are compared once, with the policy at its start."""
        self._started = True
        if self.mode != "cached" and not self.guard.watching:
            self.guard.watch(batch, self._scorer(trainer, module))
        if self.mode == "cached" and (trainer.global_step == 0 or not trained_outside_adapters(module.policy)):
            self._compare(trainer, module, probe_of(batch), self.source)
        elif isinstance(self.source, RememberedSource):
            probe = probe_of(batch)
            stored = self.source.stores(probe.kept, "train")
            # All ranks make the forward together, or none.
            if trainer.strategy.reduce_boolean_decision(stored, all=False):
                self._compare(trainer, module, probe, self.source.reader if stored else None)

    def _compare(
        self, trainer: Trainer, module: PreferenceModule, probe: Probe[Any], stored: ReferenceSource | None
    ) -> None:
        """Refuse stored scores that are not the policy's; None = this rank has none, and helps others to theirs.

        Raises:
            ValueError: names the sample, what was scored and the difference.
        """
        live = self._scorer(trainer, module, AdapterSource())(probe)
        cached = live if stored is None else self._scorer(trainer, module, stored)(probe)
        difference = probe.difference(cached, live, _tolerance_elsewhere(trainer, module))
        # Only now: all ranks make the forwards together, also one whose batch is padding alone.
        if probe.real and difference:
            raise ValueError(f"the cached scores are not this policy's, make them again: in the cache {difference}")


def _preference(module: LightningModule) -> PreferenceModule:
    assert isinstance(module, PreferenceModule), "ReferenceModel is for methods with a reference"
    return module


def _tolerance_elsewhere(trainer: Trainer, module: PreferenceModule) -> float:
    """By how much two runs may differ: next to nothing in float32 on a CPU, more with other kernels and types."""
    exact = all(parameter.dtype in (torch.float32, torch.float64) for parameter in module.parameters())
    plain = trainer.precision in ("32-true", "64-true") and not isinstance(trainer.strategy, ModelParallelStrategy)
    return TOLERANCE if exact and plain and module.device.type == "cpu" else LOOSE_TOLERANCE
