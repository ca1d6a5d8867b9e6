"""Going on from a checkpoint: the trainer's counters at the place in the data where the run stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from callbacks.recovery import unread_checkpoints
from datamodules.stream.planned_data import PlannedData
from datamodules.stream.run_place import RunPlace


class Resume(Callback):
    """Resume callback: a run that goes on ends, validates and counts its epochs as one that was never stopped.

    It is the one place where the state that Lightning restores is corrected, in the checkpoint before Lightning reads
    it, for three reasons:

    - Lightning counts an epoch as over whenever it stops, also within it (`max_steps`, `max_time`). The counters of
      epochs and batches follow from the samples consumed instead, under the settings that the run has now.
    - A validation that is due at the step of a checkpoint, and had not ended when it was written, would be left out.
    - `max_time` would hold for all starts together: once it is over, no start trains again. Each start has its own.

    The command line adds this callback to every `fit` by itself. It concerns data modules that read shards; of others
    only the timer is corrected.
    """

    def __init__(self) -> None:
        #: The optimizer step after which validation last ended.
        self.validated = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say which checkpoints of the run are not read, where some may be meant."""
        if trainer.is_global_zero:
            read = Path(trainer.ckpt_path) if trainer.ckpt_path else None
            if paths := unread_checkpoints(Path(trainer.default_root_dir), read):
                names = ", ".join(map(str, paths[:3])) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
                which = "starts at the first step" if read is None else f"goes on from {read}, which is older"
                rank_zero_warn(f"this run {which}, and does not read {names}; to go on from one give --ckpt_path FILE")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the step; checkpoint callbacks come last, so that what they write at this moment holds it."""
        if not trainer.sanity_checking:
            self.validated = trainer.global_step

    def state_dict(self) -> dict[str, Any]:
        """The step of the last validation."""
        return {"validated": self.validated}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it over."""
        self.validated = state_dict["validated"]

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Correct the checkpoint in place, when training goes on from it; the data's state is restored by now."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        states = checkpoint["callbacks"]
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Timer):
                states.pop(callback.state_key, None)
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, PlannedData) and (place := data.resume()) is not None:
            validated = states.get(self.state_key, {}).get("validated", -1)
            set_place(checkpoint["loops"]["fit_loop"], place, trainer, validated)


def set_place(loop: dict[str, Any], place: RunPlace, trainer: Trainer, validated: int) -> None:
    """Write a place into the saved state of Lightning's fit loop, in the form from which Lightning goes on there.

    Args:
        loop: the saved state; changed in place.
        place: how far the run is, by the samples consumed.
        trainer: with the settings of this start.
        validated: the optimizer step after which validation last ended.
    """
    # Every key is Lightning's own; tests stop runs at every kind of place and compare the runs that go on.
    epochs, batches = loop["epoch_progress"]["current"], loop["epoch_loop.batch_progress"]
    steps = loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]["total"]["completed"]
    # Written after the last batch of an epoch, but before what comes at its end.
    end_is_missing = batches["is_last_batch"] and epochs["processed"] < epochs["ready"]
    epoch, batch, length = place.epoch, place.batch, place.length
    max_epochs = trainer.fit_loop.max_epochs
    if batch == 0 and epoch > 0 and end_is_missing:
        run_is_over = max_epochs is not None and 0 <= max_epochs <= epoch
        if validation_due(trainer, RunPlace(epoch - 1, length, length)) or run_is_over:
            # A start at the next epoch's beginning would leave out the validation, or the end of the training.
            epoch, batch = epoch - 1, length
    place = RunPlace(epoch, batch, length)
    due, within = validation_due(trainer, place), batch > 0
    loop["epoch_progress"] = _progress(ready=epoch + within, completed=epoch)
    counts = _progress(place.total, place.total, current=batch)
    loop["epoch_loop.batch_progress"] = counts | {"is_last_batch": batch == length}
    if batch == length and not due:
        # So Lightning closes the epoch by itself; otherwise it would read one more batch.
        counts["total"]["completed"] -= 1
        counts["current"]["completed"] -= 1
    # "One batch was started, and not finished" is how Lightning knows that a validation is still to be made.
    pending = int(within and due and validated != steps)
    loop["epoch_loop.val_loop.batch_progress"] = _progress(pending, 0, current=0) | {"is_last_batch": False}
    # Lightning counts the step at which validation is due once more, whether it validates or skips that.
    restarts = within or trainer.max_steps != -1
    loop["epoch_loop.state_dict"]["_batches_that_stepped"] = steps - (restarts and due)


def validation_due(trainer: Trainer, place: RunPlace) -> bool:
    """Whether validation comes after the batch that ends at this place, by the trainer's settings."""
    every, interval = trainer.check_val_every_n_epoch, trainer.val_check_interval
    by_time = getattr(trainer, "_val_check_time_interval", None) is not None
    if not trainer.enable_validation or by_time or (every is not None and (place.epoch + 1) % every):
        return False
    batches = interval if isinstance(interval, int) else max(1, int(place.length * interval))
    counted = place.batch if every is not None else place.total
    return bool(counted % batches == 0)


def _progress(ready: int, completed: int, current: int | None = None) -> dict[str, dict[str, int]]:
    """The saved form of Lightning's counters: what was begun and what was finished; `current` = those of this epoch."""
    total = {"ready": ready, "started": ready, "processed": completed, "completed": completed}
    return {"total": total, "current": dict(total) if current is None else dict.fromkeys(total, current)}
