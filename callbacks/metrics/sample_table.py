"""A table of samples in Weights & Biases: the views, the answers, and the rewards that they got."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor
from torch.nn.functional import interpolate

from datamodules.vista.batches import VistaBatch
from datamodules.vista.samples import ANSWER_NAMES, VIEW_NAMES, View


class SampleTable(Callback):
    """Sample table callback: every N optimizer steps the batch, with its views as strips, its answers and rewards.

    It logs to a `WandbLogger` only; other loggers have no tables, and with them this callback does nothing and costs
    nothing, so that one configuration serves both. Rank 0's batch is shown. The columns are always the same, so the
    tables of a run can be joined: key, prompt, the three answers, the six views, and for each term in use the chosen
    and the rejected reward (scaled by beta, empty where the sample takes no part).

    Args:
        every_n_steps: optimizer steps between two tables; the first is made at the first step. A table has the number
            of its step, as the metrics that were logged with it.
        max_samples: rows of a table at most.
        max_frames: frames of a strip at most, evenly spread over the view.
        height: height of a strip in pixels.
    """

    def __init__(self, every_n_steps: int = 500, max_samples: int = 4, max_frames: int = 8, height: int = 96) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps is {every_n_steps}; give the steps between two tables, at least 1")
        self.every_n_steps = every_n_steps
        self.max_samples = max_samples
        self.max_frames = max_frames
        self.height = height
        self._next_step = 0
        self._step = 0

    def state_dict(self) -> dict[str, int]:
        """When the next table is due; a resumed run goes on in the same rhythm."""
        return {"next_step": self._next_step}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Take up the rhythm of the run that wrote the checkpoint."""
        self._next_step = state_dict["next_step"]

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note the step that the batch belongs to; when the batch ends, the trainer counts the next one already."""
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Send a table if one is due and there is somewhere to send it."""
        if self._step < self._next_step or not isinstance(batch, VistaBatch):
            return
        self._next_step = self._step + self.every_n_steps
        loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        if not loggers or not trainer.is_global_zero:
            return
        columns, rows = self.table(batch, outputs["terms"])
        for logger in loggers:
            logger.log_table("train/samples", columns=columns, data=rows, step=self._step)

    def table(self, batch: VistaBatch, terms: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
        """Column names and rows: text and numbers, with the views' strips as `wandb.Image`."""
        rewarded = {name: term for name, term in terms.items() if term.chosen_rewards is not None}
        columns = ["key", "prompt", *ANSWER_NAMES, *VIEW_NAMES]
        columns += [f"{name}/{side}" for name in rewarded for side in ("chosen", "rejected")]
        real = [sample for sample, is_real in enumerate(batch.real) if is_real]
        return columns, [self._row(batch, sample, rewarded) for sample in real[: self.max_samples]]

    def _row(self, batch: VistaBatch, sample: int, terms: dict[str, Any]) -> list[Any]:
        import wandb  # takes a second, and most runs have another logger

        views: dict[str, View] = {view.name: view for view in batch.views if view.sample == sample}
        first = next(iter(views.values()))
        answers: dict[str, str] = {}
        for shown in views.values():
            answers |= {str(name): text for name, text in shown.answers.items()}
        row: list[Any] = [batch.keys[sample], first.prompt, *(answers.get(name, "") for name in ANSWER_NAMES)]
        for name in VIEW_NAMES:
            view = views.get(name)
            row.append(None if view is None else wandb.Image(self.strip(view.frames).permute(1, 2, 0).numpy()))
        for term in terms.values():
            item = term.samples.index(sample) if sample in term.samples else None
            sides = (term.chosen_rewards, term.rejected_rewards)
            row += [None if item is None else float(rewards[item]) for rewards in sides]
        return row

    def strip(self, frames: Tensor) -> Tensor:
        """(T, 3, H, W) uint8 -> (3, height, W') uint8: at most `max_frames` frames side by side."""
        count = min(len(frames), self.max_frames)
        # On the CPU: the strips need none of the memory that the next step will take.
        chosen = frames[torch.linspace(0, len(frames) - 1, count).long().to(frames.device)].cpu().float()
        width = max(1, round(frames.shape[3] * self.height / frames.shape[2]))
        small = interpolate(chosen, size=(self.height, width), mode="bilinear", antialias=True, align_corners=False)
        return small.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0, 3).reshape(3, self.height, count * width)
