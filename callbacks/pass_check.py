"""The check of a pass over data: what `predict`, `test` or `validate` would stumble over, before weights are loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from callbacks.run_check import RunCheck, attach, check_reference, check_texts, meta_policy
from callbacks.writers.base import PredictWriter
from datamodules.stream.planned_data import PlannedData

PassVerb = Literal["predict", "test", "validate"]


def check_pass(
    trainer: Trainer, module: LightningModule, data: LightningDataModule | None, verb: PassVerb, output: str | None
) -> RunCheck:
    """Check a pass: indexes and questions, the policy's files and texts, recorded replies, where results will go.

    Nothing is written and no weights are loaded. What lies in the output already is compared with the settings when the
    pass starts, which may have to read all weights for that.

    Args:
        trainer: with the run's callbacks; nothing is launched.
        module: what predicts or is tested; a benchmark's own output is a folder that may be written.
        data: its data.
        verb: what will be run.
        output: the folder into which a benchmark will write; None = it writes none.
    """
    check = RunCheck()
    attach(trainer, module, data)
    if _set_up_data(data, verb, check):
        if (log := getattr(module, "replies", None)) is not None:
            check.faults += output_faults("model.replies", log.path)
            module.replies = None  # type: ignore[assignment]  # the module's set-up would open it for writing
        check.attempt(lambda: module.setup(verb))
    policy = meta_policy(module, check)
    if isinstance(data, PlannedData):
        splits = [split for split in data.splits(verb) if data.paths.get(split) is not None]
        earlier_faults = list(check.faults)
        if hasattr(policy, "text_faults"):
            check_texts(data, splits, policy, check)
        if not earlier_faults:
            check.facts += [f"{split}: {len(data.index(split))} samples" for split in splits]
        if not earlier_faults and verb == "validate" and policy is not None:
            check_reference(trainer, module, policy, check, ("val",))
    if (judge := getattr(module, "judge", None)) is not None:
        check.attempt(judge.check)
    for name, place in _outputs(trainer, verb, output):
        check.faults += output_faults(name, place)
        check.facts.append(f"writes {place}" + (", where something is already" if place.exists() else ""))
    return check


def _set_up_data(data: LightningDataModule | None, verb: PassVerb, check: RunCheck) -> bool:
    """Whether the data is without faults, as far as is known before a sample is read."""
    if isinstance(data, PlannedData):
        check.faults += (faults := data.faults(verb))
        return not faults
    return data is None or check.attempt(lambda: data.setup(verb))


def _outputs(trainer: Trainer, verb: PassVerb, output: str | None) -> Iterator[tuple[str, Path]]:
    """What will be written, by the name of its setting."""
    if verb == "test" and output is not None:
        yield "model.output", Path(output)
    for callback in trainer.callbacks if verb == "predict" else ():  # type: ignore[attr-defined]
        if isinstance(callback, PredictWriter):
            place, is_folder = callback.locked
            yield f"{type(callback).__name__}'s output", place if is_folder else callback.place


def output_faults(name: str, place: Path | None) -> list[str]:
    """Why nothing can be written at a place, which need not exist; [] = it can."""
    if place is None:
        return []
    existing = next(path for path in (place, *place.parents) if path.exists())
    folder = existing if existing.is_dir() or existing != place else existing.parent
    if not folder.is_dir():
        return [f"{name}: {folder} is no folder, so that {place} cannot be written; choose another place"]
    if not os.access(folder, os.W_OK | os.X_OK):
        return [f"{name}: {folder} cannot be written; change its permissions, or choose another place"]
    return []
