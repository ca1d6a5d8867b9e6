"""Checkpoints of a module that trains a part of its parameters: what they hold, and what a resumed run takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.optim import Optimizer

#: Under this key a checkpoint lists the parameters it holds, so that a resume can tell when one is missing.
TRAINED_KEY = "vidpref_trained"
#: Under this key are the optimizer's settings as they were configured, one dictionary a parameter group.
SETTINGS_KEY = "vidpref_optimizer_settings"


def keep_trained(checkpoint: dict[str, Any], module: LightningModule, trained: Mapping[str, nn.Parameter]) -> None:
    """Drop from a checkpoint what does not train, and key the optimizer's state by parameter name.

    Args:
        checkpoint: as Lightning made it; changed in place.
        module: the module, with its trainer.
        trained: its trainable parameters by name.
    """
    state = {name: value for name, value in checkpoint["state_dict"].items() if name in trained}
    # Under FSDP2 only rank 0 holds a state.
    assert not state or len(state) == len(trained), "a parameter was renamed and would be lost"
    checkpoint["state_dict"] = state
    checkpoint[TRAINED_KEY] = sorted(trained)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    all_names = list(names.values())
    for saved, optimizer in zip(checkpoint.get("optimizer_states", ()), module.trainer.optimizers, strict=False):
        if saved:
            optimizer_names = [
                names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]
            ]
            # torch numbers the parameters of the optimizer, but FSDP2's gathered state those of the whole module.
            by_position = all_names if isinstance(module.trainer.strategy, ModelParallelStrategy) else optimizer_names
            # torch leaves the names where an optimizer has no state, as plain SGD.
            keys = [key for group in saved["param_groups"] for key in group["params"]]
            name_of = {key: key if isinstance(key, str) else by_position[key] for key in keys}
            saved["state"] = {name_of[key]: value for key, value in saved["state"].items()}
            for group in saved["param_groups"]:
                group["params"] = [name_of[key] for key in group["params"]]


def require_trained(checkpoint: Mapping[str, Any], trained: Mapping[str, nn.Parameter]) -> None:
    """Refuse a checkpoint that does not fit what trains.

    Raises:
        ValueError: it lacks a trainable tensor, or holds one of another shape.
    """
    missing = sorted(set(trained) - set(checkpoint.get(TRAINED_KEY, ())))
    if missing:
        raise ValueError(
            f"the checkpoint lacks {len(missing)} trainable tensors, the first is {missing[0]}; "
            "resume with the policy configuration that wrote it (LoRA rank and targets, what is frozen)"
        )
    state_dict = checkpoint.get("state_dict", {})  # under FSDP2 the strategy has taken it out and loads it itself
    shapes = {
        name: (tuple(state_dict[name].shape), tuple(trained[name].shape)) for name in trained if name in state_dict
    }
    changed = [(name, before, now) for name, (before, now) in shapes.items() if before != now]
    if changed:
        name, old, new = changed[0]
        raise ValueError(
            f"cannot resume: {len(changed)} trainable tensors have another shape, {name} was {old}, is {new}. Restore "
            "the policy's settings (LoRA rank), or start a new run: another --trainer.default_root_dir, or "
            "--ckpt_path null"
        )


def optimizer_settings(optimizer: Optimizer) -> list[dict[str, Any]]:
    """An optimizer's settings, one dictionary a parameter group."""
    return [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]


def use_configured(
    optimizer: Optimizer, scheduler: Any, now: Sequence[Mapping[str, Any]], before: Sequence[Mapping[str, Any]]
) -> None:
    """Set what is configured otherwise than in the checkpoint; loading its optimizer brought the former values back.

    Args:
        optimizer: with its state restored.
        scheduler: its `LambdaLR`, restored too.
        now: the settings as configured for this run.
        before: the settings as configured for the run that wrote the checkpoint; empty = none was loaded.
    """
    if not before:
        return
    # `initial_lr` is the configured rate, which the scheduler put there; `lr` is that of the step.
    scheduler.base_lrs = [settings["initial_lr"] for settings in now]
    for group, new, old, factor in zip(optimizer.param_groups, now, before, scheduler.lr_lambdas, strict=True):
        # Only these: some optimizers keep state among their settings.
        group |= {key: value for key, value in new.items() if old.get(key) != value}
        group["lr"] = new["initial_lr"] * factor(scheduler.last_epoch)
