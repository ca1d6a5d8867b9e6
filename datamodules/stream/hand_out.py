"""Hand-out of the batches of `predict` to the ranks: the next one to whoever has room for it, or equal shares.

The counter is in the process group's own store: it is there on every cluster where ranks speak to each other, its
addition is atomic, and it needs no file system that keeps locks. Loader workers never see it: a rank's main process
takes a batch's number when a worker is to begin with it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from typing import Any, Literal, Protocol, TypeVar

import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_info

from datamodules.stream.ranks import rank_of

#: How the ranks of one `predict` come by their batches.
HandOutMode = Literal["by_need", "equal_shares"]
BatchT = TypeVar("BatchT")


class Counters(Protocol):
    """What a hand-out needs of a `torch.distributed` store."""

    def add(self, key: str, value: int, /) -> int:
        """Add to a counter, which begins at 0, as one atomic act; its new value."""


class HandOut:
    """Numbers of a pass's batches, which all ranks take from one counter: each exactly once over all ranks.

    What a rank has taken when it is killed is made by the run that continues this one, as it is not among what is
    written.

    Args:
        batches: of all ranks together.
        store: where the counters are; every rank's is connected with the others'.
        name: of the counters in it, the same on all ranks, and of this pass alone.
    """

    def __init__(self, batches: int, store: Counters, name: str) -> None:
        self.batches = batches
        self._store = store
        self._name = name

    @classmethod
    def of_ranks(cls, trainer: Any, batches: int) -> HandOut:
        """One for the ranks of a trainer, which call this together.

        Args:
            trainer: a `Trainer` whose ranks are connected.
            batches: of all ranks together.
        """
        group = dist.group.WORLD
        assert group is not None, "asked only where there are several ranks"
        # The store outlives a pass, and the next one counts from 0 again.
        name = trainer.strategy.broadcast(uuid.uuid4().hex)
        return cls(batches, group.get_group_store(), f"hand_out/{name}")

    def __iter__(self) -> Iterator[int]:
        """This rank's batches, each taken when it is asked for, until none is left for any rank."""
        while (number := self._store.add(f"{self._name}/taken", 1) - 1) < self.batches:
            yield number

    def counted(self, batches: Iterable[BatchT]) -> Iterator[BatchT]:
        """This rank's batches as they are; when the next one is asked for, the one before is counted as made."""
        for batch in batches:
            yield batch
            self._store.add(f"{self._name}/made", 1)

    @property
    def made(self) -> int:
        """Batches that all ranks have made, without those in their hands."""
        return self._store.add(f"{self._name}/made", 0)


def is_by_need(trainer: Any, mode: HandOutMode) -> bool:
    """Whether the ranks take batches by need; where that was asked for and cannot be, it says so on the terminal.

    Args:
        trainer: a `Trainer`; None = there is none.
        mode: what was asked for.
    """
    if mode == "equal_shares" or rank_of(trainer)[1] == 1:
        return False
    strategy, limit = getattr(trainer, "strategy", None), getattr(trainer, "limit_predict_batches", 1.0)
    why = ""
    # By type: DeepSpeed's strategy, among others, is made from this one, and its ranks make each batch together.
    if type(strategy) is not DDPStrategy:
        why = f"under {type(strategy).__name__} ranks may make each batch together"
    elif type(limit) is not float or limit != 1.0:  # an int is a number of batches, and 1 would equal 1.0
        why = "trainer.limit_predict_batches counts the batches of each rank"
    if why:
        rank_zero_info(f"predict: each rank makes an equal share of the samples, not by need: {why}")
    return not why
