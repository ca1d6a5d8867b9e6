"""Checks of an index's columns, all samples at a time: keys, members, and places within the shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from datamodules.shards.index import ShardEntry, key_fault, suffix_fault
from datamodules.shards.index_fields import place_fault

#: Bytes of a checksum, see `digest`.
CHECKSUM = 16
#: Samples that are checked together.
_BATCH = 65536
#: Keys that need no closer look: of printable ASCII without dots. The others are looked at one by one.
_PLAIN_KEY = r"^[ !-\-0-\[\]-~]+(/[ !-\-0-\[\]-~]+)*$"


def column_faults(table: pa.Table, samples: int, shards: Sequence[ShardEntry]) -> Iterator[str]:
    """What is wrong with the samples of an index, but for their facts.

    Args:
        table: see `index_columns`; its offsets lie within their buffers.
        samples: how many the index says.
        shards: of the index.
    """
    if table.num_rows != samples:
        yield f"it has {table.num_rows} samples, the index says {samples}"
        return
    # Typed facts alone may be absent.
    needed = {name: table.column(name) for name in table.column_names if not name.startswith("facts.")}
    nulls = [name for name, column in needed.items() if column.null_count]
    if nulls or pc.list_flatten(needed["spans"]).null_count:
        yield f"{', '.join(nulls) or 'spans'}: some rows have no value"
        return
    keys = table.column("key")
    for key in keys.filter(pc.invert(pc.match_substring_regex(keys, _PLAIN_KEY))).to_pylist():
        if why := key_fault(key):
            yield f"sample {key!r} {why}"
    if pc.count_distinct(keys).as_py() < samples:
        counts = pc.value_counts(keys)
        for key in counts.field("values").filter(pc.greater(counts.field("counts"), 1)).to_pylist():
            yield f"sample {key!r} appears twice; keys are unique"
    for text in pc.unique(table.column("suffixes")).to_pylist():
        names = text.split(",") if text else []
        yield from (f"a {why}" for name in names if (why := suffix_fault(name)))
        if len(set(names)) < len(names):
            yield f"members {text} have one suffix twice"
    places = table.column("shard").to_numpy()
    if samples and not 0 <= places.min() <= places.max() < len(shards):
        yield f"a sample is in shard number {places.min()} or {places.max()}, there are {len(shards)}"
        return
    if (np.diff(places) < 0).any():
        yield "the samples are not in the order of the shards"
    for shard, count in zip(shards, np.bincount(places, minlength=len(shards)).tolist(), strict=True):
        if count != shard.count:
            yield f"shard {shard.name} has {count} samples here, its own count says {shard.count}"
    sizes = np.array([shard.bytes for shard in shards] or [0], np.int64)
    for batch in table.select(["key", "shard", "suffixes", "spans", "checksums"]).to_batches(_BATCH):
        yield from _place_faults(batch, sizes)


def _place_faults(batch: pa.RecordBatch, sizes: NDArray[np.int64]) -> Iterator[str]:
    """The samples whose members are not one span and one checksum each within their shard."""
    suffixes, spans = batch.column("suffixes"), batch.column("spans")
    commas = pc.add(pc.count_substring(suffixes, ","), 1)
    members = pc.if_else(pc.equal(suffixes, ""), 0, commas).to_numpy(zero_copy_only=False).astype(np.int64)
    numbers = pc.list_value_length(spans).to_numpy(zero_copy_only=False)
    checksums = pc.binary_length(batch.column("checksums")).to_numpy(zero_copy_only=False)
    if ((numbers != 2 * members) | (checksums != CHECKSUM * members)).any():
        wrong = int(np.flatnonzero((numbers != 2 * members) | (checksums != CHECKSUM * members))[0])
        yield f"sample {batch.column('key')[wrong].as_py()!r} has not a place and a checksum for each member"
        return
    pairs = spans.flatten().to_numpy(zero_copy_only=False).reshape(-1, 2)
    owner = np.repeat(np.arange(len(batch)), members)
    ends = sizes[batch.column("shard").to_numpy(zero_copy_only=False)][owner]
    # Not the sum of both, which may pass 64 bits.
    outside = (pairs < 0).any(1) | (pairs[:, 1] > ends) | (pairs[:, 0] > ends - pairs[:, 1])
    for row in np.unique(owner[outside]).tolist():
        entry = batch.slice(row, 1).to_pylist()[0]
        names, numbers = entry["suffixes"].split(","), entry["spans"]
        places = {name: [*numbers[2 * place : 2 * place + 2], ""] for place, name in enumerate(names)}
        yield f"sample {entry['key']!r}: {place_fault({'shard': entry['shard'], 'members': places}, sizes.tolist())}"
