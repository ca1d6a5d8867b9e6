"""Sequences of an index's samples that are not all objects in memory, and one column of any sequence of samples."""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:  # the index uses these sequences
    from datamodules.shards.index import SampleEntry


class LazyEntries(Sequence["SampleEntry"]):
    """Sequence of samples that are made when they are asked for; equal to any sequence of equal samples."""

    @abstractmethod
    def entry(self, position: int) -> SampleEntry:
        """The sample at a position from 0 on."""

    @abstractmethod
    def keys(self) -> list[str]:
        """All keys, without making a sample."""

    @abstractmethod
    def facts(self, name: str) -> list[Any]:
        """One fact of all samples; None where a sample has none of that name."""

    @abstractmethod
    def checksums(self, suffix: str) -> list[str | None]:
        """The checksums of all samples' members of one suffix; None where there is none."""

    @overload
    def __getitem__(self, position: int) -> SampleEntry: ...

    @overload
    def __getitem__(self, position: slice) -> Sequence[SampleEntry]: ...

    def __getitem__(self, position: int | slice) -> SampleEntry | Sequence[SampleEntry]:
        if isinstance(position, slice):
            return tuple(self.entry(place) for place in range(*position.indices(len(self))))
        if not -len(self) <= position < len(self):
            raise IndexError(f"position {position} of {len(self)} samples")
        return self.entry(int(position) % len(self))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(own == given for own, given in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as a list: it is compared by what it holds


class JoinedEntries(LazyEntries):
    """Samples of several indexes, one after the other, their shards numbered through.

    Args:
        parts: the samples of each index.
        shards: how many shards each index has.
    """

    def __init__(self, parts: Sequence[Sequence[SampleEntry]], shards: Sequence[int]) -> None:
        self._parts = list(parts)
        self._starts = [0, *accumulate(map(len, parts))]
        self._first_shards = [0, *accumulate(shards)]

    def __len__(self) -> int:
        return self._starts[-1]

    def __iter__(self) -> Iterator[SampleEntry]:
        for part, first in zip(self._parts, self._first_shards, strict=False):
            for entry in part:
                yield replace(entry, shard=entry.shard + first)

    def entry(self, position: int) -> SampleEntry:
        """The sample, its shard counted over all indexes."""
        part = bisect_right(self._starts, position) - 1
        entry = self._parts[part][position - self._starts[part]]
        return replace(entry, shard=entry.shard + self._first_shards[part])

    def keys(self) -> list[str]:
        """Of all parts."""
        return [key for part in self._parts for key in keys_of(part)]

    def facts(self, name: str) -> list[Any]:
        """Of all parts."""
        return [value for part in self._parts for value in facts_of(part, name)]

    def checksums(self, suffix: str) -> list[str | None]:
        """Of all parts."""
        return [value for part in self._parts for value in checksums_of(part, suffix)]


def keys_of(entries: Sequence[SampleEntry]) -> list[str]:
    """The keys of samples, in order."""
    return entries.keys() if isinstance(entries, LazyEntries) else [entry.key for entry in entries]


def facts_of(entries: Sequence[SampleEntry], name: str) -> list[Any]:
    """One fact of samples, in order; None where a sample has none of that name."""
    return entries.facts(name) if isinstance(entries, LazyEntries) else [entry.facts.get(name) for entry in entries]


def checksums_of(entries: Sequence[SampleEntry], suffix: str) -> list[str | None]:
    """The checksums of samples' members of one suffix, in order; None where a sample has no such member."""
    if isinstance(entries, LazyEntries):
        return entries.checksums(suffix)
    return [member.checksum if (member := entry.members.get(suffix)) else None for entry in entries]
