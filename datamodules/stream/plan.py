"""Which rank reads which sample when: arithmetic, no input or output.

The order of an epoch is a pure function of (index, filter, seed, epoch). A training plan is the endless concatenation
of its epochs, cut into global batches of ``world * batch_size`` samples; rank r takes every ``world``-th sample of a
global batch, starting at its r-th. So a position in the run is one number, the samples consumed by all ranks together,
and it means the same thing for any number of ranks, workers and accumulated micro-batches.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]
ItemCounts = NDArray[np.bool_] | NDArray[np.int64]


def order(
    shard_counts: Sequence[int], keep: Sequence[int] | Positions | None, seed: int, epoch: int, window: int = 16
) -> Positions:
    """The kept samples' positions in the order in which one epoch reads them.

    The window rule: shards that keep at least one sample are put in a random order and taken ``window`` at a time; the
    samples of those shards are shuffled among each other. So a sample may land anywhere within its window, reads stay
    within ``window`` shards at a time, and which shards share a window changes with the epoch. A window of at least
    the number of shards is a full shuffle. The filter comes first: what is filtered out leaves no hole in a window.

    Only raw bits of PCG64 are used, which numpy keeps the same over versions; its `permutation` may change.

    Args:
        shard_counts: samples in each shard; positions count through the shards in this order.
        keep: the positions that the filter lets through, in any order; None = all.
        seed: the run's seed, 0 or more.
        epoch: the plan's epoch, 0 or more.
        window: shards that are shuffled together, 1 or more.

    Returns:
        (K,) int64, every kept position once.
    """
    ends = np.cumsum(np.asarray(shard_counts, dtype=np.int64))
    kept = _kept(int(ends[-1]) if len(ends) else 0, keep)
    shard_of = np.searchsorted(ends, kept, side="right")
    used = np.unique(shard_of)
    bits = np.random.PCG64(np.random.SeedSequence([seed, epoch]))
    # Stable: should two random numbers be equal, the order is still the same on every machine.
    shuffled = used[np.argsort(bits.random_raw(len(used)), kind="stable")]
    window_of = np.zeros(len(ends), dtype=np.int64)
    window_of[shuffled] = np.arange(len(used)) // window
    # lexsort's last key is its first: by window, and at random within each.
    return kept[np.lexsort((bits.random_raw(len(kept)), window_of[shard_of]))]


def _kept(num_samples: int, keep: Sequence[int] | Positions | None) -> Positions:
    """The kept positions, sorted and each once.

    Raises:
        ValueError: a position that the index does not have.
    """
    if keep is None:
        return np.arange(num_samples, dtype=np.int64)
    kept = np.unique(np.asarray(keep, dtype=np.int64))
    if len(kept) and not 0 <= kept[0] <= kept[-1] < num_samples:
        raise ValueError(f"the filter keeps positions {kept[0]} to {kept[-1]}, the index has 0 to {num_samples - 1}")
    return kept


@dataclass(frozen=True, slots=True)
class Slot:
    """One place in a batch.

    Attributes:
        epoch: the plan's epoch that the sample belongs to (never the trainer's).
        position: the sample's position in the index; padding has the position of a real sample too.
        mask: False = padding, or a sample that could not be read; it has no loss. Padding is in no denominator, the
            other is.
    """

    epoch: int
    position: int
    mask: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class PlannedBatch:
    """What one rank reads for one micro-batch.

    Attributes:
        slots: this rank's share, ``batch_size`` slots.
        step_positions: (S,) int64, the unmasked samples of the whole optimizer step: all ranks, all micro-batches.
        denominators: term -> how many items `step_positions` have in it, divided by ranks x accumulation, so that
            a sum over a micro-batch's items divided by this, averaged over ranks and accumulation, is the global mean.
            1.0 where there is none: the sum is 0 then. A sample skipped while reading is still counted.
    """

    slots: tuple[Slot, ...]
    step_positions: Positions
    denominators: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan(ABC):
    """Base of the training and the evaluation plan: which samples, and this rank's share of them.

    Attributes:
        shard_counts: samples in each shard.
        batch_size: samples per rank and micro-batch.
        keep: positions that the filter lets through; None = all.
        rank: this process, among the `world` processes that get different data.
        world: number of those processes.
        terms: loss term -> (N,) bool or integers over all samples of the index: whether each takes part in it, or
            with how many items (latent frames without a tie ...).
    """

    #: True: a pass goes on where the last one ended. False: every pass starts at the first sample.
    endless: ClassVar[bool]

    shard_counts: Sequence[int]
    batch_size: int
    keep: Sequence[int] | Positions | None = None
    rank: int = 0
    world: int = 1
    terms: Mapping[str, ItemCounts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}; it must be 1 or more")
        if not len(self.kept):
            raise ValueError(f"no sample is left: the filter keeps none of {sum(self.shard_counts)}; loosen it")
        for name, items in self.terms.items():
            if len(items) != sum(self.shard_counts):
                raise ValueError(
                    f"term {name!r} says of {len(items)} samples whether they take part in it, "
                    f"the index has {sum(self.shard_counts)}"
                )

    @cached_property
    def kept(self) -> Positions:
        """(K,) int64, the positions after the filter, ascending."""
        return _kept(int(sum(self.shard_counts)), self.keep)

    @property
    def global_batch(self) -> int:
        """Samples per micro-batch over all ranks."""
        return self.batch_size * self.world

    @abstractmethod
    def __len__(self) -> int:
        """Batches in one pass, the same on every rank."""

    @abstractmethod
    def batch(self, consumed: int) -> PlannedBatch:
        """This rank's batch when ``consumed`` samples were consumed before it by all ranks together."""

    def check_workers(self, num_workers: int) -> None:
        """Refuse to train on fewer samples than ranks x workers; an evaluation plan pads instead.

        Args:
            num_workers: loader processes per rank; 0 = none.

        Raises:
            ValueError: there are fewer.
        """
        workers = max(1, num_workers)
        if self.endless and len(self.kept) < self.world * workers:
            raise ValueError(
                f"{len(self.kept)} samples are fewer than {self.world} ranks x {workers} workers; "
                "use fewer workers or ranks, loosen the filter, or add data"
            )

    def _denominators(self, positions: Positions, parts: int) -> dict[str, float]:
        # Divided by ranks x accumulation, as the trainer averages over both and would otherwise divide twice.
        counts = {name: int(items[positions].sum()) for name, items in self.terms.items()}
        return {name: count / parts if count else 1.0 for name, count in counts.items()}


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainPlan(Plan):
    """The endless plan: every epoch has every kept sample exactly once, and a batch may span two epochs.

    A pass (what the trainer calls an epoch) is `len` micro-batches, a multiple of `accumulation`, so that it ends with
    a full optimizer step; what is left over of a plan epoch comes first in the next pass. Nothing is dropped or padded.
    A limit on the batches of a pass must be a multiple of `accumulation` too, or denominators and steps drift apart.

    Attributes:
        seed: the run's seed.
        window: shards that are shuffled together, see `order`.
        accumulation: micro-batches per optimizer step.
        origin: samples consumed when the first optimizer step of this configuration began; steps count from here.
    """

    endless: ClassVar[bool] = True

    seed: int = 0
    window: int = 16
    accumulation: int = 1
    origin: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("window", 1), ("accumulation", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be {least} or more")

    def __len__(self) -> int:
        # At least one step: of fewer samples than that, some come twice in it.
        return max(1, len(self.kept) // self.step_samples) * self.accumulation

    @property
    def step_samples(self) -> int:
        """Samples per optimizer step: all ranks, all micro-batches."""
        return self.global_batch * self.accumulation

    def batch(self, consumed: int) -> PlannedBatch:
        """This rank's batch when ``consumed`` samples were consumed before it by all ranks together."""
        epochs, positions = self._span(consumed, consumed + self.global_batch)
        share = slice(self.rank, None, self.world)
        slots = tuple(Slot(int(e), int(p)) for e, p in zip(epochs[share], positions[share], strict=True))
        # A denominator counts the whole optimizer step, also the micro-batches before and after this one.
        first = consumed - (consumed - self.origin) % self.step_samples
        _, step = self._span(first, first + self.step_samples)
        return PlannedBatch(slots, step, self._denominators(step, self.world * self.accumulation))

    def identity(self) -> dict[str, Any]:
        """What decides the order besides the index; plans that agree in this and in the index read the same."""
        kept = f"{len(self.kept)}:{zlib.crc32(self.kept.tobytes()):08x}"
        return {"seed": self.seed, "window": self.window, "kept": kept}

    def _span(self, start: int, end: int) -> tuple[Positions, Positions]:
        """Epoch and position of the plan's samples start ... end - 1, counted from the beginning of the run."""
        epochs, places = np.divmod(np.arange(start, end, dtype=np.int64), len(self.kept))
        positions = np.empty_like(places)
        for epoch in range(int(epochs[0]), int(epochs[-1]) + 1):
            if epoch not in self._orders:
                # A step may span two epochs, and a short epoch ends within a batch: the last few orders are kept.
                while len(self._orders) > 3:
                    del self._orders[min(self._orders)]
                self._orders[epoch] = order(self.shard_counts, self.kept, self.seed, epoch, self.window)
            in_epoch = epochs == epoch
            positions[in_epoch] = self._orders[epoch][places[in_epoch]]
        return epochs, positions

    @cached_property
    def _orders(self) -> dict[int, Positions]:
        return {}


@dataclass(frozen=True, eq=False, kw_only=True)
class EvalPlan(Plan):
    """Every kept sample exactly once, in the index's order; the last batches are padded with masked slots.

    Every rank has the same number of batches, all of full size; a rank may have a batch of padding alone.
    Denominators are those of one batch over all ranks.
    """

    endless: ClassVar[bool] = False

    def __len__(self) -> int:
        return -(-len(self.kept) // self.global_batch)

    def batch(self, consumed: int) -> PlannedBatch:
        """This rank's batch when ``consumed`` samples were consumed before it by all ranks together."""
        mine = range(consumed + self.rank, consumed + self.global_batch, self.world)
        # Padding repeats the last sample, so that it has a shape to be padded to, and is masked.
        last = len(self.kept) - 1
        slots = tuple(Slot(0, int(self.kept[min(n, last)]), n <= last) for n in mine)
        step = self.kept[consumed : consumed + self.global_batch]
        return PlannedBatch(slots, step, self._denominators(step, self.world))
