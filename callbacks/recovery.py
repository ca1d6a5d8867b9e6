"""The checkpoint from which a run goes on: when it is written, and which others lie about."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from callbacks.rank_flags import RankFlags

#: The folder of checkpoints within a run's folder.
CHECKPOINTS = "checkpoints"


class Recovery(ModelCheckpoint):
    """Recovery checkpoint callback: writes `last.ckpt`, one file that each save replaces, from which a run goes on.

    It is written at the end of the first optimizer step after some minutes by rank 0's clock, every N steps if asked,
    when training ends, and when the run is stopped by a signal (`StopSignals`). The command line adds this callback by
    itself, unless the configuration has one, or a `ModelCheckpoint` with `save_last`.

    Args:
        dirpath: the folder; None = ``checkpoints`` in the trainer's `default_root_dir`.
        minutes: how much work may be lost; None = not by time.
        every_n_steps: also write after every N optimizer steps; None = not by steps.
    """

    def __init__(
        self, dirpath: str | None = None, minutes: float | None = 15.0, every_n_steps: int | None = None
    ) -> None:
        if minutes is not None and not minutes > 0:
            raise ValueError(f"Recovery: minutes is {minutes}; give more than 0, or null")
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(f"Recovery: every_n_steps is {every_n_steps}; give 1 or more, or null")
        super().__init__(dirpath, save_top_k=0, save_last=True, enable_version_counter=False)
        self.minutes = minutes
        self.every_n_steps = every_n_steps
        self._flags: RankFlags | None = None
        self._saved_at = 0.0
        self._validated = False

    @property
    def state_key(self) -> str:
        """The same whatever the settings, so that they can change."""
        return type(self).__name__

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the file's place follows from the settings."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to take over, see `state_dict`; Lightning's own would remember a folder that has moved since."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Choose the folder."""
        if self.dirpath is None:
            self.dirpath = str((Path(trainer.default_root_dir) / CHECKPOINTS).absolute())
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            self._flags = RankFlags(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._saved_at = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write at the end of a step, if it is due."""
        if trainer.fit_loop._should_accumulate():
            return
        assert self._flags is not None, "setup comes first"
        is_late = self.minutes is not None and time.monotonic() - self._saved_at >= 60 * self.minutes
        by_time = self._flags.any(is_late and trainer.is_global_zero)
        by_steps = self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0
        if by_time or by_steps:
            self.save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """An epoch's end is no reason."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A validation's end is no reason, but what was written at its step does not hold its scores."""
        self._validated = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what training ended with, the scores of a validation after the last step, too."""
        if self._validated:
            self._last_global_step_saved = 0
        self.save(trainer)

    def save(self, trainer: Trainer) -> None:
        """Write it now, unless it holds this step already; all ranks call it together."""
        if not self._should_skip_saving_checkpoint(trainer):
            self._validated = False
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
        self._saved_at = time.monotonic()


def save_for_recovery(trainer: Trainer) -> str | None:
    """Write the checkpoint from which a run goes on; all ranks call it together, at any moment of a fit.

    Returns:
        Its path; None where there is nothing to write: no step was made, or the run keeps no such checkpoint.
    """
    writer = _recovery_callback(trainer)
    if writer is None or trainer.global_step == 0 or trainer.sanity_checking or trainer.fast_dev_run:  # type: ignore[attr-defined]
        return None
    path = writer.format_checkpoint_name({}, writer.CHECKPOINT_NAME_LAST)
    writer._save_checkpoint(trainer, path)
    return path


def recovery_file(trainer: Trainer) -> str | None:
    """The checkpoint from which a run would go on, as former starts have left it; None = there is none."""
    writer = _recovery_callback(trainer)
    if writer is None:
        return None
    # Its own set-up, which chooses the folder, may not have come yet.
    folder = writer.dirpath or str((Path(trainer.default_root_dir) / CHECKPOINTS).absolute())
    path = Path(folder, f"{writer.CHECKPOINT_NAME_LAST}{writer.FILE_EXTENSION}")
    return str(path) if path.is_file() else None


def _recovery_callback(trainer: Trainer) -> ModelCheckpoint | None:
    callbacks = [item for item in trainer.checkpoint_callbacks if isinstance(item, ModelCheckpoint) and item.save_last]
    return next((item for item in callbacks if isinstance(item, Recovery)), callbacks[0] if callbacks else None)


def unread_checkpoints(folder: Path, read: Path | None) -> list[Path]:
    """The checkpoints in a run's folder that a start leaves aside though they may be what is meant.

    Args:
        folder: of the run.
        read: what the start reads; only younger ones count then.
    """
    # Beside the run's own: where Lightning puts them by itself, below a logger's folder.
    patterns = ("*.ckpt", f"{CHECKPOINTS}/*.ckpt", f"*/*/{CHECKPOINTS}/*.ckpt")
    paths = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    if read is None:
        return paths
    age = read.stat().st_mtime_ns
    return [path for path in paths if path.stat().st_mtime_ns > age]
