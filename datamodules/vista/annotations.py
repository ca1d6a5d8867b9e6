"""Annotations of the samples of an index, computed once for all that use them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from datamodules.shards.index import Index
from datamodules.vista.facts import SampleFacts
from datamodules.vista.partners import Partners
from datamodules.vista.views import Level, Negatives
from datamodules.vista.visible import WHOLE_FRAMES, VisibleRegions


@dataclass(frozen=True, eq=False)
class Annotations:
    """Facts, levels and partners of the samples of an index, by position; levels and partners when first used.

    That is in the data module's set-up, so that workers get them ready and compute nothing.

    Attributes:
        index: the samples.
        negatives: decide which levels a sample has.
        facts: of each sample, about whole frames.
        visible: what the policy sees of the frames.
    """

    index: Index
    negatives: Negatives
    facts: list[SampleFacts]
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
        facts = [SampleFacts.from_index(entry.key, entry.facts) for entry in index.entries]
        visible = VisibleRegions.of(policy.visible, policy.frame_fit, facts) if policy is not None else WHOLE_FRAMES
        return cls(index, negatives, facts, visible)

    @cached_property
    def levels(self) -> list[frozenset[Level]]:
        """The levels at which each of the N samples has a view and its negative, in what the policy sees."""
        return [self.negatives.levels(self.visible.seen(facts)) for facts in self.facts]

    @cached_property
    def partners(self) -> Partners:
        """For each sample, those of other videos."""
        return Partners.of(self.index)
