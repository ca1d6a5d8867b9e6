"""Annotations of the samples of an index, computed once for all that use them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

from datamodules.shards.index import Index
from datamodules.vista.facts import SampleFacts
from datamodules.vista.partners import Partners
from datamodules.vista.views import Level, Negatives
from datamodules.vista.visible import WHOLE_FRAMES, VisibleRegions


class IndexedFacts(Sequence[SampleFacts]):
    """Facts of the samples of an index, made from it: one by one, or all at once and kept when it is gone through.

    A data module goes through them several times in its set-up. Workers, which need a few at a time, are sent none.

    Args:
        index: the samples.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._kept: list[SampleFacts] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_index": self._index, "_kept": None}

    def __len__(self) -> int:
        return len(self._index)

    @overload
    def __getitem__(self, position: int) -> SampleFacts: ...

    @overload
    def __getitem__(self, position: slice) -> list[SampleFacts]: ...

    def __getitem__(self, position: int | slice) -> SampleFacts | list[SampleFacts]:
        if isinstance(position, slice):
            return [self[place] for place in range(*position.indices(len(self)))]
        if self._kept is not None:
            return self._kept[position]
        entry = self._index.entries[position]
        return SampleFacts.from_index(entry.key, entry.facts)

    def __iter__(self) -> Iterator[SampleFacts]:
        if self._kept is None:
            self._kept = [SampleFacts.from_index(entry.key, entry.facts) for entry in self._index.entries]
        return iter(self._kept)

    def forget(self) -> None:
        """Keep none any more, before processes are started that would each have a copy."""
        self._kept = None


@dataclass(frozen=True, eq=False)
class Annotations:
    """Facts, levels and partners of the samples of an index, by position; levels and partners when first used.

    That is in the data module's set-up, so that workers get levels and partners ready and compute nothing.

    Attributes:
        index: the samples.
        negatives: decide which levels a sample has.
        facts: of each sample, about whole frames.
        visible: what the policy sees of the frames.
    """

    index: Index
    negatives: Negatives
    facts: IndexedFacts
    visible: VisibleRegions

    @classmethod
    def of(cls, index: Index, negatives: Negatives, policy: Any = None) -> Annotations:
        """The annotations of an index.

        Args:
            index: the samples.
            negatives: the negative of each level.
            policy: a `VideoLLM`, or an object with its `visible` and `frame_fit`; None = it sees whole frames.
        """
        # From the index alone, before any shard is read.
        facts = IndexedFacts(index)
        visible = VisibleRegions.of(policy.visible, policy.frame_fit, facts) if policy is not None else WHOLE_FRAMES
        return cls(index, negatives, facts, visible)

    @cached_property
    def levels(self) -> list[frozenset[Level]]:
        """The levels at which each of the N samples has a view and its negative, in what the policy sees."""
        # One object for all that are equal: a worker is sent each once.
        distinct: dict[frozenset[Level], frozenset[Level]] = {}
        own = (self.negatives.levels(self.visible.seen(facts)) for facts in self.facts)
        return [distinct.setdefault(levels, levels) for levels in own]

    @cached_property
    def partners(self) -> Partners:
        """For each sample, those of other videos."""
        return Partners.of(self.index)
