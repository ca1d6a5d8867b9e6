"""Trained weights as folders that peft, transformers and diffusers load: what leaves a run."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from callbacks.adapter_card import RunNumbers, RunScores, complete_export
from datamodules.shards.files import replaced_folder
from datamodules.shards.output_lock import OutputLock
from lightning_modules.preference import PreferenceModule

#: Beside an export of a run's end: what its weights are; gone as soon as a training goes on.
_MARK = ".{name}.json"


class AdapterExport(Callback):
    """Export callback: writes the policy when training ends, and every N steps if asked.

    The folders are `FOLDER/last` and `FOLDER/step-000500`, each with a card (README.md) that says what it was made of.

    With LoRA each is an adapter in its family's format, a PEFT folder or what a diffusers pipeline loads; with full
    fine-tuning it is a model folder for `from_pretrained`. A folder has its name only when all of it is written; what
    was there under that name is kept until then.

    A run that was killed between its last checkpoint and the end of its export is exported when it is started once
    more, though nothing is left to train; so is one whose export is older than its checkpoint.

    While it runs, a fit holds the lock of its last export, so that no other one replaces it.

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
        self._trained = False
        self._scores = RunScores()
        self._lock: OutputLock | None = None  # rank 0's

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lock the folder, before weights are loaded: it may lie outside the run's own, which has a lock of its own.

        Raises:
            LockedError: another run exports there.
            OSError: the folder cannot be made, or not be written.
        """
        if stage != "fit":
            return
        error: OSError | None = None
        if trainer.is_global_zero:
            self._lock = OutputLock(self.folder_of(trainer) / "last")
            try:
                self._lock.acquire()
            except OSError as lock_error:
                error = lock_error
        # All ranks stop with the one message: a rank that waits for another that is gone fails with torch's own.
        if (error := trainer.strategy.broadcast(error)) is not None:
            raise error

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let other runs export there."""
        if self._lock is not None:
            self._lock.release()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let other runs export there; Lightning tears nothing down after an error."""
        self.teardown(trainer, pl_module, "fit")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Whether this start trains is not known yet."""
        self._trained = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Steps before a resume were written by the interrupted run; its last export is a former one from now on."""
        self._trained, self._written = True, trainer.global_step
        if trainer.is_global_zero:
            self._mark(trainer).unlink(missing_ok=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep its scores for the card."""
        if not trainer.sanity_checking:
            self._scores.update(trainer, "val/")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the card into the checkpoint: an export that is made of it later, without a training, has the same."""
        self._scores.numbers(trainer).to_checkpoint(checkpoint)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take over the scores of the starts before."""
        self._scores.restore(RunNumbers.from_checkpoint(checkpoint))

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
        self._export_last(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what a former start has trained, where it did not come to that."""
        if self._trained or trainer.ckpt_path is None:
            return
        if trainer.strategy.broadcast(self._is_former(trainer)):
            # Lightning has moved the weights to the CPU by now, where shards cannot be gathered.
            pl_module.to(trainer.strategy.root_device)
            self._export_last(trainer, pl_module)

    def folder_of(self, trainer: Trainer) -> Path:
        """The folder in which the exports of a run lie."""
        return Path(self.folder) if self.folder is not None else Path(trainer.default_root_dir) / "exports"

    def export(self, trainer: Trainer, module: LightningModule, name: str) -> Path:
        """Write the policy as it is now; all ranks call it together, because weights are gathered; rank 0 writes.

        Returns:
            The folder.
        """
        assert isinstance(module, PreferenceModule), "AdapterExport is for methods with a policy"
        target = self.folder_of(trainer) / name
        with ExitStack() as writing:
            partial = target
            if trainer.is_global_zero:
                writing.enter_context(OutputLock(target))  # `vidpref export` may write to the same folder
                partial = writing.enter_context(replaced_folder(target))
            module.policy.export(partial)
            if trainer.is_global_zero:
                complete_export(partial, module, self._scores.numbers(trainer))
        trainer.strategy.barrier("export")
        return target

    def _export_last(self, trainer: Trainer, module: LightningModule) -> None:
        path = self.export(trainer, module, "last")
        if trainer.is_global_zero:
            self._mark(trainer).write_text(json.dumps({"global_step": trainer.global_step}) + "\n")
        rank_zero_info(f"exported: {path}")

    def _is_former(self, trainer: Trainer) -> bool:
        """Whether the last export is missing, or not of the step that the run is at."""
        mark = self._mark(trainer)
        if not mark.exists() or not (self.folder_of(trainer) / "last").is_dir():
            return True
        try:
            return bool(json.loads(mark.read_text())["global_step"] != trainer.global_step)
        except (ValueError, KeyError, TypeError):  # a machine that crashed while it was written
            return True

    def _mark(self, trainer: Trainer) -> Path:
        return self.folder_of(trainer) / _MARK.format(name="last")
