"""Write tar shards with their index, and index the shards that others wrote.

A shard is a plain tar that webdataset reads: ``key.mp4``, ``key.json``, ``key.<field>.mp4``,
``key.<field>.safetensors`` and ``key.<field>.jpg``, a sample's members one after the other.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Self

from datamodules.shards.commit import PARTIAL, commit, refuse_existing, remove_partials
from datamodules.shards.index import Index, SampleEntry, ShardEntry, entry_faults, key_fault, suffix_fault
from datamodules.shards.index_fields import version_of
from datamodules.shards.scan import FactsOf, scan_shard


def write_tar_shards(
    samples: Iterable[tuple[str, Mapping[str, bytes]]],
    output: str | Path,
    schema: str,
    facts_of: FactsOf,
    *,
    samples_per_shard: int = 64,
    max_bytes: int = 1 << 30,
    made_from: Mapping[str, Any] | None = None,
    before_commit: Callable[[Index], None] | None = None,
) -> Index:
    """Write samples as they come, one in memory at a time: ``OUTPUT-000000.tar`` ... and ``OUTPUT.index.json``.

    Nothing has its final name before all of it is written, the index last: it is the commit point. After a kill at any
    moment the same call gives the same files.

    Args:
        samples: (key, {suffix without the leading dot: content}) pairs.
        output: folder and common name, as ``data/train``; the folder is made if need be.
        schema: what the members mean, one of `SCHEMA_VERSIONS`.
        facts_of: makes a sample's facts in the index from its key, its row and its members' names.
        samples_per_shard: a shard is closed after as many.
        max_bytes: or before it would pass this, headers not counted.
        made_from: for side shards: {"fingerprint": of the source's index, ...}, see `Index.made_from`.
        before_commit: writes what belongs to the shards beside them; called when all samples are written and accepted.

    Returns:
        The index as written.

    Raises:
        ValueError: a refused key, member or sample, a key that comes twice, no sample, shards that exist already, or
            `samples_per_shard` below 1.
    """
    with TarWriter(output, schema, facts_of, samples_per_shard, max_bytes, made_from) as writer:
        for key, members in samples:
            writer.write(key, members)
        index = writer.close()
        if before_commit is not None:
            before_commit(index)
        commit({writer.output: index})
    return index


class TarWriter:
    """Writer of shards under partial names, until they are committed; a context that leaves nothing of them behind.

    Args:
        output: as `write_tar_shards`, and so are the others.

    Raises:
        ValueError: shards that exist already, or `samples_per_shard` below 1.
    """

    def __init__(
        self,
        output: str | Path,
        schema: str,
        facts_of: FactsOf,
        samples_per_shard: int = 64,
        max_bytes: int = 1 << 30,
        made_from: Mapping[str, Any] | None = None,
    ) -> None:
        self.output = Path(output)
        if samples_per_shard < 1:
            raise ValueError(f"samples_per_shard is {samples_per_shard}; give 1 or more")
        refuse_existing(self.output)
        self.schema = schema
        self.facts_of = facts_of
        self.made_from = made_from
        self._limits = {"maxcount": samples_per_shard, "maxsize": max_bytes}
        self._shards: list[ShardEntry] = []
        self._entries: list[SampleEntry] = []
        # Opened here: webdataset's own opener would run a path that begins with "pipe:".
        self._opened: list[IO[bytes]] = []
        self._writer: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._writer is not None:
            self._writer.post = None  # close the tar, but do not seal half a shard
            self._writer.close()
        for file in self._opened:  # closing twice does nothing
            file.close()
        remove_partials(self.output)

    @property
    def empty(self) -> bool:
        """No sample was written, or it is closed."""
        return self._writer is None

    def write(self, key: str, members: Mapping[str, bytes]) -> None:
        """Add a sample.

        Raises:
            ValueError: a refused key, member or sample.
        """
        if faults := [why for why in (key_fault(key), *map(suffix_fault, members)) if why]:
            raise ValueError(f"sample {key!r}: " + "; ".join(faults))
        if self._writer is None:
            # At the first sample: a run that has none leaves no folder behind.
            from webdataset import ShardWriter

            self.output.parent.mkdir(parents=True, exist_ok=True)
            # webdataset formats the pattern by %, which a folder's name may hold.
            pattern = str(self.output).replace("%", "%%") + f"-%06d.tar{PARTIAL}"
            # A fixed time makes equal samples equal bytes, and so equal fingerprints.
            settings = {"encoder": False, "mtime": 0, "verbose": 0, "opener": self._open, "post": self._seal}
            self._writer = ShardWriter(pattern, **self._limits, **settings)
        self._writer.write({"__key__": key, **members})

    def close(self) -> Index:
        """The index of all that was written, to be committed.

        Raises:
            ValueError: no sample, or a key that comes twice.
        """
        if self._writer is None:
            raise ValueError(f"{self.output}: there is no sample to write")
        writer, self._writer = self._writer, None
        writer.close()
        return _index(self.schema, self._shards, self._entries, self.made_from)

    def _open(self, path: str) -> IO[bytes]:
        self._opened.append(Path(path).open("wb"))  # noqa: SIM115 closed by `_seal`, in the end by `__exit__`
        return self._opened[-1]

    def _seal(self, path: str) -> None:
        self._opened[-1].flush()
        os.fsync(self._opened[-1].fileno())
        self._opened[-1].close()
        # Read back from the disk: the index describes what is there, and not what was meant to be written.
        shard, entries = scan_shard(Path(path), len(self._shards), self.facts_of)
        self._shards.append(replace(shard, address=path.removesuffix(PARTIAL)))
        self._entries.extend(entries)


def index_tar_shards(
    paths: Sequence[str | Path],
    schema: str,
    facts_of: FactsOf,
    *,
    made_from: Mapping[str, Any] | None = None,
) -> Index:
    """The index of tar shards that exist already; the index must be written into their folder.

    Args:
        paths: local ``.tar`` files, all in one folder, in the order that positions run through them.
        schema: what the members mean, one of `SCHEMA_VERSIONS`.
        facts_of: makes a sample's facts in the index from its key, its row and its members' names.
        made_from: see `Index.made_from`.

    Raises:
        ValueError: everything that is wrong with any of the shards, at once.
    """
    files = [Path(path) for path in paths]
    faults: list[str] = []
    if len({file.parent.resolve() for file in files}) > 1:
        faults.append("the shards are in several folders; one index describes one folder")
    shards: list[ShardEntry] = []
    entries: list[SampleEntry] = []
    for file in files:
        try:
            shard, members = scan_shard(file, len(shards), facts_of)
        except ValueError as error:
            faults.append(str(error))
        else:
            shards.append(shard)
            entries += members
    if faults:
        raise ValueError("\n".join(faults))
    return _index(schema, shards, entries, made_from)


def _index(
    schema: str, shards: list[ShardEntry], entries: list[SampleEntry], made_from: Mapping[str, Any] | None
) -> Index:
    if faults := entry_faults(shards, entries):
        raise ValueError("\n".join(faults))
    return Index(
        schema, tuple(shards), tuple(entries), dict(made_from or {}), version_of(entry.facts for entry in entries)
    )
