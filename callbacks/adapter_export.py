"""Trained weights as folders that peft, transformers and diffusers load: what leaves a run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from callbacks.adapter_card import RunNumbers, complete_export
from lightning_modules.preference import PreferenceModule


class AdapterExport(Callback):
    """Export callback: writes the policy when training ends, and every N steps if asked.

    The folders are `FOLDER/last` and `FOLDER/step-000500`, each with a card (README.md) that says what it was made of.

    With LoRA each is an adapter in its family's format, a PEFT folder or what a diffusers pipeline loads; with full
    fine-tuning it is a model folder for `from_pretrained`. A folder has its name only when all of it is written; what
    was there under that name is replaced.

    Args:
        folder: where the exports go; None = ``exports`` in the trainer's `default_root_dir`.
        every_n_steps: also write after every N optimizer steps; None = at the end only.
    """

    def __init__(self, folder: str | None = None, every_n_steps: int | None = None) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(f"AdapterExport: every_n_steps is {every_n_steps}; give 1 or more, or leave it out")
        self.folder = folder
        self.every_n_steps = every_n_steps
        self._written = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Steps before a resume were written by the interrupted run."""
        self._written = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write if it is due."""
        step = trainer.global_step
        if self.every_n_steps and step % self.every_n_steps == 0 and step != self._written:
            self._written = step
            self.export(trainer, pl_module, f"step-{step:06d}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what training ended with, while the weights are still on their devices."""
        rank_zero_info(f"exported: {self.export(trainer, pl_module, 'last')}")

    def folder_of(self, trainer: Trainer) -> Path:
        """The folder in which the exports of a run lie."""
        return Path(self.folder) if self.folder is not None else Path(trainer.default_root_dir) / "exports"

    def export(self, trainer: Trainer, module: LightningModule, name: str) -> Path:
        """Write the policy as it is now; all ranks call it together, because weights are gathered; rank 0 writes.

        Returns:
            The folder.
        """
        assert isinstance(module, PreferenceModule), "AdapterExport is for methods with a policy"
        folder = self.folder_of(trainer)
        target, partial = folder / name, folder / f".{name}.tmp"
        if trainer.is_global_zero:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        module.policy.export(partial)
        if trainer.is_global_zero:
            complete_export(partial, module, RunNumbers.of(trainer))
            shutil.rmtree(target, ignore_errors=True)
            partial.replace(target)
        trainer.strategy.barrier("export")
        return target
