"""The signals by which a scheduler stops a run, and what a data loader's workers do about them."""

from __future__ import annotations

import signal

#: What SLURM, Kubernetes, torchrun and spot machines send before they kill; Windows has no SIGUSR1.
STOP_SIGNALS = tuple(
    signal.Signals(number) for name in ("SIGTERM", "SIGUSR1") if (number := getattr(signal, name, None)) is not None
)


def ignore_stop_signals(worker: int) -> None:
    """Let a loader's worker ignore these signals: schedulers send them to every process of a run.

    A worker that ended by one would fail the training process before it has written its checkpoint. When that process
    ends the workers notice, and end as well.

    Args:
        worker: the worker's index, as `worker_init_fn` gets it.
    """
    for stop in STOP_SIGNALS:
        signal.signal(stop, signal.SIG_IGN)
