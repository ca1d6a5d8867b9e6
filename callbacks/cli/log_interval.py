"""How often a run logs its losses, where the configuration leaves it open."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

#: The interval of a run that is long enough, and into how many of them a shorter one is divided.
_STEPS, _PARTS = 10, 10


class LogInterval(Callback):
    """Log interval callback: sets the trainer's `log_every_n_steps` by the run's length.

    It is every tenth optimizer step, and in a run of fewer than a hundred steps so often that some ten rows are
    logged. The command line adds this callback to a `fit` without ``trainer.log_every_n_steps``.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the interval; before this hook the trainer does not know the steps of the run."""
        trainer.log_every_n_steps = interval(trainer.estimated_stepping_batches)  # type: ignore[attr-defined]


def interval(steps: float) -> int:
    """Steps between two rows of a log, for a run of so many optimizer steps (infinite = without an end)."""
    return max(1, int(min(_STEPS, steps // _PARTS)))
