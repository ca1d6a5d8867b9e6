"""The run check: what a training run would stumble over, before weights are loaded and without a GPU."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.model_helpers import is_overridden

from callbacks.cli.checkpoint_io import whole_checkpoint
from callbacks.disk_space import disk_faults, disk_needs, gigabytes
from callbacks.loss_weights import LossWeights
from callbacks.reference.model import ReferenceModel
from callbacks.reference.sources import SPLITS, ReferenceSplit
from datamodules.stream.indexed_data import Split
from datamodules.stream.plan import TrainPlan
from datamodules.stream.planned_data import PlannedData
from lightning_modules.checkpoints import require_trained
from lightning_modules.policies.remote_code import load_failure
from lightning_modules.preference import PreferenceModule


@dataclass(slots=True)
class RunCheck:
    """What the check of a run came to.

    Attributes:
        faults: everything for which the run would stop, or be refused; [] = it can start.
        facts: what the run will be, one line each.
    """

    faults: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)

    def attempt(self, part: Callable[[], Any]) -> bool:
        """Run what raises at a fault; False = it did, and the fault is listed."""
        try:
            part()
        except (ValueError, OSError) as error:
            self.faults.append(load_failure(error))
            return False
        return True

    def require_none(self) -> None:
        """Raise a ValueError that lists the faults."""
        if self.faults:
            title = [f"{len(self.faults)} faults stop this run:"] if len(self.faults) > 1 else []
            raise ValueError("\n".join([*title, *self.faults]))


def check_run(
    trainer: Trainer,
    module: LightningModule,
    data: LightningDataModule | None,
    checkpoint: Path | None = None,
    ranks: int | None = None,
) -> RunCheck:
    """Check a training run: data, texts, adapters, the checkpoint that it goes on from, disk space.

    Weights are neither read nor made: the policy is built on the meta device, from its configuration and tokenizer.
    Modules and data that are not of this project's kind are not looked into.

    Args:
        trainer: with the run's callbacks and folder; nothing is launched.
        module: the method, as configured.
        data: its data.
        checkpoint: that the run will go on from; None = it starts.
        ranks: processes that get different data; None = those of the trainer.
    """
    check = RunCheck()
    if not is_overridden("training_step", module):
        check.faults.append(
            f"{type(module).__name__} has nothing to train; for another verb than fit name it: "
            "`vidpref check predict --config ...`, `vidpref check test ...`, `vidpref check validate ...`"
        )
        return check
    attach(trainer, module, data)
    if isinstance(module, PreferenceModule):
        check.attempt(lambda: module.setup(TrainerFn.FITTING))
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, LossWeights | ReferenceModel):
                check.attempt(partial(callback.setup, trainer, module, TrainerFn.FITTING))
    policy: Any = meta_policy(module, check) if isinstance(module, PreferenceModule) else None
    if policy is not None:
        _training_facts(policy, check)
    steps = None
    if isinstance(data, PlannedData):
        # The strategy knows the number of ranks when it has started them.
        ranks = ranks or trainer.num_devices * trainer.num_nodes
        steps = _check_data(trainer, module, data, policy, ranks, check, checkpoint)
    if policy is not None:
        needs = disk_needs(trainer, policy, steps)
        check.facts += map(str, needs)
        check.faults += disk_faults(needs)
    return check


def _check_data(
    trainer: Trainer,
    module: LightningModule,
    data: PlannedData[Any],
    policy: Any,
    ranks: int,
    check: RunCheck,
    checkpoint: Path | None,
) -> int | None:
    """Check the data, and what else depends on it: texts, the reference, the checkpoint; returns the run's steps."""
    faults = data.faults(TrainerFn.FITTING)
    check.faults += faults
    if hasattr(policy, "text_faults"):
        # One split's fault must not hide what is wrong with the texts of another.
        check_texts(data, [split for split in SPLITS if data.paths.get(split) is not None], policy, check)
    if faults:
        return None
    steps = _data_facts(data, module, trainer, ranks, check)
    if policy is not None:
        # As the callback does, which reads no cache of a validation that is switched off.
        splits = SPLITS if trainer.limit_val_batches else SPLITS[:1]
        check_reference(trainer, module, policy, check, splits)
    if checkpoint is not None:
        _check_resume(checkpoint, data, policy, check)
    return steps


def check_texts(data: PlannedData[Any], splits: Sequence[Split], policy: Any, check: RunCheck) -> None:
    """Every text of the splits whose shards are as their indexes say, through the policy's tokenizer."""
    for split in splits:
        try:
            data.check(split, data.index(split))
        except ValueError:
            continue  # it is among the faults already
        check.faults += data.text_faults(split, policy.text_faults)


def attach(trainer: Trainer, module: LightningModule, data: LightningDataModule | None) -> None:
    """Make trainer, module and data known to each other, as Lightning does when it starts; it will do so again."""
    trainer.strategy._lightning_module = module
    module.trainer = trainer
    if data is not None:
        data.trainer = trainer
        trainer.datamodule = data  # type: ignore[attr-defined]


def meta_policy(module: Any, check: RunCheck) -> Any:
    """The policy on the meta device, with tokenizer and adapters but without weights; None = it cannot be built so."""
    policy: Any = getattr(module, "policy", None)
    if "meta" not in inspect.signature(getattr(policy, "load", len)).parameters:
        return None
    policy = copy.deepcopy(policy)
    return policy if check.attempt(lambda: policy.load(meta=True)) else None


def _training_facts(policy: Any, check: RunCheck) -> None:
    """Say what trains; nothing is a fault."""
    trained = _trained(policy)
    if not trained:
        check.faults.append("nothing trains: give the policy a `lora`, or `lora: null` for full fine-tuning")
    count = sum(parameter.numel() for parameter in trained.values())
    layers = {name.partition(".lora_")[0] for name in trained if ".lora_" in name}
    how = f"LoRA in {len(layers)} layers" if layers else f"{len(trained)} tensors of the model itself"
    check.facts.append(f"{count / 1e6:,.2f} million parameters train: {how}")


def check_reference(
    trainer: Trainer, module: LightningModule, policy: Any, check: RunCheck, splits: Sequence[ReferenceSplit]
) -> None:
    """List why a reference cannot be what it is configured to be: a cache of other views, more than adapters trains.

    Of a copy, which is there with its weights only, say what it takes.
    """
    loaded = module.policy
    module.policy = policy
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, ReferenceModel) and callback.mode == "copy":
            size = sum(parameter.numel() * parameter.element_size() for parameter in policy.parameters())
            check.facts.append(
                f"the reference is a second copy of the policy: {gigabytes(size)} more of memory, on each device that "
                "holds a whole model, or as a share of it under FSDP"
            )
        elif isinstance(callback, ReferenceModel):
            for split in splits:
                check.attempt(partial(callback.source.prepare, trainer, cast(PreferenceModule, module), split))
    module.policy = loaded


def _trained(policy: Any) -> Mapping[str, torch.nn.Parameter]:
    """The parameters of a policy that train, named as in its module."""
    return {f"policy.{name}": parameter for name, parameter in policy.named_parameters() if parameter.requires_grad}


def _data_facts(
    data: PlannedData[Any], module: LightningModule, trainer: Trainer, ranks: int, check: RunCheck
) -> int | None:
    """Say what each split and an epoch hold; the optimizer steps of the run, None where their number is open."""
    check.facts += data.item_lines(module.active() if isinstance(module, PreferenceModule) else ())
    accumulation, keep = trainer.accumulate_grad_batches, data.selection("train").keep
    plan = TrainPlan(
        shard_counts=data.index("train").shard_counts,
        batch_size=data.batch_size,
        keep=keep,
        world=ranks,
        accumulation=accumulation,
    )
    check.attempt(lambda: plan.check_workers(data.num_workers))
    check.facts.append(_epoch(len(plan.kept), plan.step_samples))
    if trainer.max_steps > 0:
        return trainer.max_steps
    return None if trainer.max_epochs in (None, -1) else trainer.max_epochs * len(plan) // accumulation


def _epoch(samples: int, step: int) -> str:
    """What the trainer takes for an epoch: whole optimizer steps."""
    steps = max(1, samples // step)
    line = f"an epoch: {steps} optimizer step{'s' * (steps > 1)} of {step} samples"
    if samples < step:
        return f"{line}, of which there are {samples}: they are read several times in it"
    if samples % step:
        return f"{line}, {steps * step} of {samples}: the next epoch begins with those that are left"
    return line


def _check_resume(path: Path, data: PlannedData[Any], policy: Any, check: RunCheck) -> None:
    """List why the run cannot go on from a checkpoint."""
    with whole_checkpoint(path):
        stored = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if policy is not None:
        check.attempt(lambda: require_trained(stored, _trained(policy)))
    state = stored.get(type(data).__qualname__)
    if state:
        check.faults += data.resume_faults(state)
    check.facts.append(f"goes on from {path}, step {stored.get('global_step')}")
