"""Parts of a preparation, for many machines that know nothing of each other: ``--part 2/8`` and `prepare join`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from datamodules.prepare.rows import SourceRow
from datamodules.shards.files import write_whole
from datamodules.shards.index import Index

ItemT = TypeVar("ItemT")
#: Options in which parts may differ.
_OWN = ("output", "part", "workers")


@dataclass(frozen=True, slots=True)
class Part:
    """Part of a source's rows: a block of them, so that parts one after the other have the rows in order.

    Attributes:
        number: from 1.
        count: of all parts.
        settings: a hash of the rows and options, which all parts of one preparation share.
    """

    number: int
    count: int
    settings: str = ""

    @classmethod
    def named(cls, text: str | None, rows: Sequence[SourceRow], options: Mapping[str, Any]) -> Part | None:
        """The part that an option names, as ``2/8``; None where there is no such option.

        Args:
            text: the option.
            rows: all rows of the source.
            options: of the preparation; parts may differ in their number, their folder and how they are worked on.

        Raises:
            ValueError: it names no part.
        """
        if text is None:
            return None
        part = cls.parsed(text)
        shared = {name: value for name, value in options.items() if name not in _OWN}
        content = [described(shared), [[row.number, row.name, row.data or row.line] for row in rows]]
        settings = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return dataclasses.replace(part, settings=settings)

    @classmethod
    def parsed(cls, text: str) -> Part:
        """The part that ``2/8`` names.

        Raises:
            ValueError: it names none.
        """
        numbers = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text.strip(), re.ASCII)
        if numbers is None or int(numbers[1]) > int(numbers[2]):
            raise ValueError(f"part is {text!r}; give its number from 1 and how many there are, as 2/8")
        return cls(int(numbers[1]), int(numbers[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, items: Sequence[ItemT]) -> Sequence[ItemT]:
        """Its share of the rows; parts differ by one row at most."""
        first, last = ((number * len(items)) // self.count for number in (self.number - 1, self.number))
        return items[first:last]

    def prefix(self, prefix: Path) -> Path:
        """Folder and common name of its shards."""
        return prefix.with_name(f"{prefix.name}.part{self.number}of{self.count}")

    def write_record(self, prefix: Path, indexes: Mapping[str, Index], samples_per_shard: int) -> None:
        """Say what belongs to it, also where that is nothing: a part whose rows give no sample is finished, too.

        Args:
            prefix: folder and common name of its shards.
            indexes: of its data sets, by the names of the buckets; "" where there is one data set.
            samples_per_shard: what the joined shards are to have.
        """
        record = {
            "settings": self.settings,
            "indexes": {bucket: index.fingerprint for bucket, index in indexes.items()},
            "samples_per_shard": samples_per_shard,
        }
        path = record_path(prefix)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(record).encode())


def require_all_parts(numbers: Collection[tuple[int, int]], output: Path, verb: str) -> int:
    """How many parts there are, of which none is missing.

    Args:
        numbers: number and count of each finished part.
        output: what they are parts of, for messages.
        verb: what makes them, for messages.

    Raises:
        ValueError: there is none, or parts are missing, which it names, or they are of several counts.
    """
    if not numbers:
        raise ValueError(f"{output}: there is no finished part of it; `{verb} ... --part 1/N` makes one")
    counts = sorted({count for _, count in numbers})
    if len(counts) > 1:
        listed = " and ".join(map(str, counts))
        raise ValueError(f"{output}: there are parts of {listed}; delete those that are not meant")
    if missing := sorted(set(range(1, counts[0] + 1)) - {number for number, _ in numbers}):
        listed = ", ".join(f"{number}/{counts[0]}" for number in missing)
        raise ValueError(f"{output}: parts are missing or not finished; run the same command with --part {listed}")
    return counts[0]


def record_path(prefix: Path) -> Path:
    """The record of a part, by folder and common name of its shards."""
    return prefix.with_name(f"{prefix.name}.json")


def described(value: Any, depth: int = 6) -> Any:
    """A setting in plain JSON types: of an object its class and its public attributes, by which it was made.

    Args:
        value: the setting.
        depth: of objects within each other that are looked into; below that, and of a client or a network that one may
            hold, which could lead anywhere, there is the class alone.
    """
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Path):
        return str(value)
    if depth and isinstance(value, Mapping):
        return {str(name): described(inner, depth - 1) for name, inner in value.items()}
    if depth and isinstance(value, list | tuple):
        return [described(inner, depth - 1) for inner in value]
    if dataclasses.is_dataclass(value):
        attributes = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    else:
        attributes = getattr(value, "__dict__", {})
    public = {name: inner for name, inner in attributes.items() if depth and not name.startswith("_")}
    return {"class": type(value).__qualname__, **{name: described(inner, depth - 1) for name, inner in public.items()}}
