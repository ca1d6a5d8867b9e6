"""Callbacks that watch a run of the command from inside, and one that kills it; named on its command line."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode


class StepProbe(Callback):
    """Writes the loss and the gradient norm of every optimizer step, over all ranks and micro-batches, and the keys."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.loss = 0.0
        self.keys: list[str] = []
        self.norm = 0.0

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        squares = torch.zeros(())
        for parameter in pl_module.parameters():
            if parameter.grad is not None:
                grad = parameter.grad
                squares += (grad.full_tensor() if isinstance(grad, DTensor) else grad).float().square().sum().cpu()
        self.norm = float(squares.sqrt())

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = trainer.strategy.reduce(outputs["loss"].detach(), reduce_op="mean")
        self.loss += float(loss)  # Lightning has divided it by the accumulation
        self.keys += batch.keys
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        step = {"step": trainer.global_step, "loss": self.loss, "norm": self.norm, "keys": self.keys}
        self.loss, self.keys = 0.0, []
        if trainer.is_global_zero:
            with self.path.open("a") as file:
                file.write(json.dumps(step) + "\n")


class Reductions(TorchDispatchMode):
    """Counts what processes reduce together."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func.namespace == "c10d" and "reduce" in func.__name__
        return func(*args, **(kwargs or {}))


class GradientReductions(Callback):
    """Writes how often a rank reduced gradients in the first optimizer step, and how long it waits for others."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.mode = Reductions()

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        self.mode.__enter__()

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.mode.__exit__(None, None, None)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if trainer.global_step == 0 and trainer.is_global_zero and dist.is_initialized():
            timeout = dist.distributed_c10d._get_default_group()._get_backend(torch.device("cpu")).options._timeout
            self.path.write_text(json.dumps({"count": self.mode.count, "timeout": timeout.total_seconds()}))


class KillAt(Callback):
    """SIGKILL, as the machine's own, when a step is done: no handler runs, nothing is flushed."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


class KillRank(KillAt):
    """SIGKILL to one of several ranks when a step is done."""

    def __init__(self, step: int, rank: int) -> None:
        super().__init__(step)
        self.rank = rank

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_rank == self.rank:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


class KillWorker(KillAt):
    """SIGKILL to a data loader's worker when a step is done, as the kernel does where memory is short."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step:
            os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)


class SignalRank(KillRank):
    """SIGTERM within the first micro-batch after a step, to a rank and its loader's workers; rank -1 = to all."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        first = batch_idx % trainer.accumulate_grad_batches == 0
        if self.rank in (-1, trainer.global_rank) and trainer.global_step == self.step and first:
            for worker in multiprocessing.active_children():
                os.kill(worker.pid or 0, signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Nothing is killed."""


class KeyProbe(Callback):
    """Writes which samples each rank trained on, and in which optimizer step, a line for each micro-batch."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        begun = (batch_idx + 1) % trainer.accumulate_grad_batches != 0
        keys = [key for key, real in zip(batch.keys, batch.mask.tolist(), strict=True) if real]
        line = {"step": trainer.global_step + begun, "rank": trainer.global_rank, "keys": keys}
        # One write, which the system appends as a whole, whichever rank's it is.
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
