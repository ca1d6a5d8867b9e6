"""Which of the processes of a run this one is, for what each of them reads."""

from __future__ import annotations

from typing import Any


def rank_of(trainer: Any) -> tuple[int, int]:
    """The rank of this process, and the number of processes, among those that get different data.

    Args:
        trainer: a `Trainer`; None = there is none, as when someone only looks at the data.
    """
    # Not `trainer.global_rank`: processes that share a model, as by tensor parallelism, get the same data.
    share = trainer.distributed_sampler_kwargs if trainer else None
    return (share["rank"], share["num_replicas"]) if share else (0, 1)
