"""Checks before training, cheap ones: the indexes, and that their shards are there in full."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from datamodules.shards.byte_reader import ByteReader, ReadFailedError
from datamodules.shards.index import Index, Schemas, ShardEntry
from datamodules.shards.joined_index import joined

#: What is counted, how many of them are done, all of them.
Tell = Callable[[str, int, int], None]


def load_index(paths: str | Path | Sequence[str | Path], schema: Schemas, reader: ByteReader | None = None) -> Index:
    """Read one or several indexes as one and check that all shards are there in full.

    Args:
        paths: ``NAME.index.json`` files, local or at http(s) or s3 addresses.
        schema: the schema, or several, that the caller understands.
        reader: fetches bytes; None = one with default retries.

    Raises:
        ValueError: lists all that is wrong with all of them: missing or unknown indexes, missing shards, sizes.
    """
    return joined(load_indexes(paths, schema, reader))


def load_indexes(
    paths: str | Path | Sequence[str | Path], schema: Schemas, reader: ByteReader | None = None
) -> list[Index]:
    """As `load_index`, but each by itself.

    Args:
        paths: ``NAME.index.json`` files, local or at http(s) or s3 addresses.
        schema: the schema, or several, that the caller understands.
        reader: fetches bytes; None = one with default retries.

    Raises:
        ValueError: lists all that is wrong with all of them: missing or unknown indexes, missing shards, sizes.
    """
    paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
    faults: list[str] = [] if paths else ["no index is given; name at least one NAME.index.json"]
    indexes: list[Index] = []
    for path in paths:
        try:
            indexes.append(Index.read(path, schema, reader))
        except ValueError as error:
            faults.append(str(error))
    # Also when an index is missing: one run lists all that is to be fixed.
    for index in indexes:
        faults += shard_faults(index, reader)
    if faults:
        raise ValueError("\n".join(faults))
    return indexes


def shard_faults(index: Index, reader: ByteReader | None = None) -> list[str]:
    """The shards that are missing or of another size; several servers' answers are awaited at once."""
    reader = reader or ByteReader()

    def fault(shard: ShardEntry) -> str | None:
        try:
            size = reader.size(shard.address)
        except FileNotFoundError:
            return f"{shard.address}: no such shard; copy it there, or make the index again"
        except ReadFailedError as error:
            return str(error)
        # None: some servers do not say how long a file is.
        if size in (None, shard.bytes):
            return None
        return f"{shard.address}: has {size} bytes, the index says {shard.bytes}; copy or index it again"

    # In the order of the shards, whichever answer comes first.
    with ThreadPoolExecutor(8) as threads:
        return [why for why in threads.map(fault, index.shards) if why]
