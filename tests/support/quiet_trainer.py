"""Trainer that prints and saves nothing by default."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer


def quiet_trainer(**settings: Any) -> Trainer:
    """A trainer on the CPU without logger, checkpoints, progress bar and summary; `settings` come before these."""
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(**(quiet | settings))
