"""Stopping a run when its scheduler asks for it, without losing a step or an item."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from types import FrameType
from typing import Any

import torch.distributed as dist
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

from callbacks.rank_flags import RankFlags
from callbacks.recovery import recovery_file, save_for_recovery
from datamodules.stream.worker_signals import STOP_SIGNALS

#: The exit status of a run that was stopped: that of a process which SIGTERM ended, as schedulers know it.
STOPPED = 143
#: How long rank 0 waits for the ranks that it started, in seconds; a cluster kills all after about 30.
_PATIENCE = 10.0


class StopSignals(Callback):
    """Callback that ends a run in order after SIGTERM or SIGUSR1, with exit status 143.

    `fit` stops after the micro-batch in hand, or the batch of a validation: it writes the checkpoint of the last whole
    optimizer step, and drops the gradients of a begun one, which is made again when the run goes on. `predict`, `test`
    and `validate` stop after the item in hand; what is written stays. Before the first batch there is nothing to save:
    the run ends at once, and says so. A signal to one rank of a machine reaches all of them that Lightning started.

    It takes the place of Lightning's handlers: they broadcast from within the signal, which leaves ranks waiting for
    each other for ever, and broadcast once in each micro-batch, which on a GPU waits for its work.

    The command line adds this callback by itself.
    """

    def __init__(self) -> None:
        #: The signal that arrived first.
        self.received: signal.Signals | None = None
        self._trainer: Trainer | None = None
        self._flags: RankFlags | None = None
        self._process = os.getpid()
        self._running = False
        self._former: dict[signal.Signals, Any] = {}
        self._ranks: list[int] = []
        self._children: list[subprocess.Popen[bytes]] = []

    # Hooks

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listen, in place of Lightning, which would from the end of the set-up on."""
        self._trainer, self._process, self._running = trainer, os.getpid(), False
        self._flags = RankFlags(trainer)
        # A child knows its parent's process id only, which may be that of a shell or a scheduler instead.
        self._ranks = [self._process] * trainer.world_size
        if trainer.world_size > 1:
            dist.all_gather_object(self._ranks, self._process)
        trainer._signal_connector.register_signal_handlers = _nothing  # type: ignore[method-assign]
        trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _nothing  # type: ignore[method-assign]
        if threading.current_thread() is threading.main_thread():
            for signum in STOP_SIGNALS:
                # setdefault: `setup` may come twice, and the second time the handler in place is ours.
                self._former.setdefault(signum, signal.signal(signum, self._note))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listen no longer."""
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Listen no longer, except after a signal, which may come once more before the process has ended.

        Of a run that a signal ended before its first batch, say so here: a handler must not write.
        """
        if self.received is None:
            self._restore()
        elif not self._running:
            self._say(f"before the first batch. {self._kept_before()}")

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on a signal waits for the batch's end."""
        self._running = True

    on_train_start = on_validation_start = on_test_start = on_predict_start = on_sanity_check_start

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop after this micro-batch if any rank was asked to."""
        if self._agreed():
            size = int(trainer.accumulate_grad_batches)
            place = f"micro-batch {batch_idx % size + 1} of {size}"
            if trainer.fit_loop._should_accumulate():
                self._stop_training(f"{place} of optimizer step {trainer.global_step + 1}, which is made again")
            # Lightning logs the step after this hook.
            trainer._logger_connector.update_train_step_metrics()
            self._stop_training(f"optimizer step {trainer.global_step}")

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Within `fit` as in training; a validation by itself stops as `test` does."""
        if trainer.state.fn != TrainerFn.FITTING:
            self._stop_after_item()
        elif self._agreed():
            self._stop_training(f"batch {batch_idx + 1} of a validation, which is made again")

    def on_test_batch_end(self, *arguments: Any, **more: Any) -> None:
        """Stop after this item if asked to."""
        self._stop_after_item()

    def on_predict_batch_end(self, *arguments: Any, **more: Any) -> None:
        """Stop after this item if asked to; it is written, as writers come before this callback."""
        self._stop_after_item()

    # Parts

    def _note(self, signum: int, frame: FrameType | None) -> None:
        """The handler: keeps the signal for the batch's end, and sends it to the other ranks."""
        if os.getpid() != self._process:
            return  # a process that was forked off, as a loader's worker
        if self.received is None:
            self.received = signal.Signals(signum)
            self._send_on(signum)
        if not self._running:
            raise SystemExit(STOPPED)

    def _send_on(self, signum: int) -> None:
        """Send a signal to the ranks that Lightning started on this machine, by way of the one that started them."""
        assert self._trainer is not None, "setup comes first"
        environment = getattr(self._trainer.strategy, "cluster_environment", None)
        started: list[subprocess.Popen[bytes]] = getattr(self._trainer.strategy.launcher, "procs", [])
        for process in started:
            process.send_signal(signum)
        self._children = list(started)
        # Lightning watches this list, and would kill this process while it saves because another has ended in order.
        started.clear()
        parent = os.getppid()
        if isinstance(environment, LightningEnvironment) and environment.local_rank() > 0 and parent in self._ranks:
            with contextlib.suppress(ProcessLookupError):
                os.kill(parent, signum)

    def _agreed(self) -> bool:
        """Whether any rank has received a signal; all ranks ask together."""
        assert self._flags is not None, "setup comes first"
        return self._flags.any(self.received is not None)

    def _stop_training(self, place: str) -> None:
        assert self._trainer is not None, "setup comes first"
        path, steps = save_for_recovery(self._trainer), self._trainer.global_step
        if path is not None:
            outcome = f"{path} holds step {steps}; the same command with --ckpt_path last goes on from there"
        elif steps == 0:
            outcome = "No step was finished, so nothing is saved; the same command starts once more"
        else:
            outcome = f"The {steps} steps are lost: this run keeps no checkpoints (trainer.enable_checkpointing)"
        self._end(f"after {place}. {outcome}")

    def _stop_after_item(self) -> None:
        # The ranks of a sharded model make each batch together; others are at items of their own.
        assert self._trainer is not None, "setup comes first"
        sharded = isinstance(self._trainer.strategy, ModelParallelStrategy)
        if self._agreed() if sharded else self.received is not None:
            self._end("after the item in hand. What is written stays; the same command goes on")

    def _kept_before(self) -> str:
        """What there is of former starts, for one that has added nothing to it."""
        assert self._trainer is not None, "setup comes first"
        if self._trainer.state.fn != TrainerFn.FITTING:
            return "What former starts have written stays; the same command goes on"
        if (path := recovery_file(self._trainer)) is not None:
            return f"{path} is as it was; the same command with --ckpt_path last goes on from there"
        return "No step was begun, so nothing is saved; the same command starts once more"

    def _say(self, text: str) -> None:
        name = self.received.name if self.received is not None else "a signal to another rank"
        rank_zero_info(f"stopped by {name} {text} (exit status {STOPPED})")

    def _end(self, text: str) -> None:
        self._say(text)
        for process in self._children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE)
        raise SystemExit(STOPPED)

    def _restore(self) -> None:
        for signum, handler in self._former.items():
            signal.signal(signum, handler)
        self._former = {}


def _nothing() -> None:
    """What Lightning's handling of signals does in a run of this command."""
