"""Several indexes as one."""

from __future__ import annotations

from collections.abc import Sequence

from datamodules.shards.entry_sequences import JoinedEntries
from datamodules.shards.index import Index


def joined(indexes: Sequence[Index]) -> Index:
    """Several indexes of one schema as one; positions run through them in order.

    Raises:
        ValueError: different schemas, or a key that two of them have.
    """
    if len(indexes) == 1:
        return indexes[0]
    if len({index.schema for index in indexes}) != 1:
        raise ValueError(
            "indexes of different schemas cannot be read together: " + ", ".join(i.schema for i in indexes)
        )
    owners: dict[str, int] = {}
    for number, index in enumerate(indexes):
        keys = index.keys
        if doubles := [key for key in keys if key in owners]:
            other = indexes[owners[doubles[0]]]
            first, second = (part.address(part.positions[doubles[0]]) for part in (other, index))
            raise ValueError(
                f"{len(doubles)} samples of two indexes have the same keys, and keys are unique: {doubles[0]!r} is in "
                f"{first} and in {second}; name each index once, or make one of them again with other keys: `prepare` "
                "it from a file of another name, `predict` it with --data.key_prefix"
            )
        owners |= dict.fromkeys(keys, number)
    shards = tuple(shard for index in indexes for shard in index.shards)
    entries = JoinedEntries([index.entries for index in indexes], [len(index.shards) for index in indexes])
    # Side shards of several sources are of none of them as a whole; their readers look at each part.
    made_from = indexes[0].made_from if all(i.made_from == indexes[0].made_from for i in indexes) else {}
    return Index(indexes[0].schema, shards, entries, made_from, max(index.version for index in indexes))
