"""How a data module turns the bytes of samples into batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from datamodules.shards.index import SampleEntry
from datamodules.stream.plan import PlannedBatch

BatchT = TypeVar("BatchT")


@dataclass(frozen=True, slots=True, eq=False)
class SampleRead:
    """A sample's bytes, on their way to `Recipe.make_sample`.

    Attributes:
        entry: key, facts and members.
        members: bytes by suffix, checked.
        epoch: the plan's epoch.
        position: the sample's position in the index.
        read_other: (position, suffixes or None) -> another sample's bytes, checked likewise.
    """

    entry: SampleEntry
    members: dict[str, bytes]
    epoch: int
    position: int
    read_other: Callable[..., dict[str, bytes]]


class Recipe(ABC, Generic[BatchT]):
    """Recipe of a data module's batches: which bytes to read, one sample from them, one batch from samples.

    The loader calls the three methods in this order, in its workers, so a recipe can be pickled.
    """

    def members(self, position: int) -> Collection[str] | None:
        """The suffixes of the members to read of the sample at a position of the index; None = all of them."""
        return None

    @abstractmethod
    def make_sample(self, sample: SampleRead) -> Any:
        """One sample, decoded; never None.

        Raises:
            ValueError: a bad sample, which `on_bad_sample` decides about. Any other error is a mistake in the code.
        """

    @abstractmethod
    def collate(self, samples: list[Any], planned: PlannedBatch) -> BatchT:
        """The batch of a plan's slots.

        Args:
            samples: one for each slot; None exactly where the slot's mask is False.
            planned: the slots, those of skipped samples masked as padding is.
        """
