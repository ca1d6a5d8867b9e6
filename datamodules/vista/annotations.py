"""What an index says of the samples of VistaDPO, worked out once for all that ask."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from datamodules.shards.index import Index
from datamodules.vista.facts import SampleFacts
from datamodules.vista.partners import Partners
from datamodules.vista.views import Level, Negatives


@dataclass(frozen=True, eq=False)
class Annotations:
    """Facts, levels and partners of the samples of an index, by position; each is worked out when it is first used.

    That is in the data module's set-up, so that workers are handed what is there and work out nothing.

    Attributes:
        index: the samples.
        negatives: decide which levels a sample has.
    """

    index: Index
    negatives: Negatives

    @cached_property
    def facts(self) -> list[SampleFacts]:
        """N facts."""
        return [SampleFacts.from_index(entry.key, entry.facts) for entry in self.index.entries]

    @cached_property
    def levels(self) -> list[frozenset[Level]]:
        """The levels at which each of the N samples has a view and its negative."""
        return [self.negatives.levels(facts) for facts in self.facts]

    @cached_property
    def partners(self) -> Partners:
        """For each sample, those of other videos."""
        return Partners.of(self.index)
