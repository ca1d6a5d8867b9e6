"""Write tar shards with their index, and index the shards that others wrote.

A shard is a plain tar that webdataset reads: ``key.mp4``, ``key.json``, ``key.<field>.mp4``,
``key.<field>.safetensors`` and ``key.<field>.jpg``, a sample's members one after the other.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from datamodules.shards.index import (
    SCHEMA_VERSIONS,
    Index,
    SampleEntry,
    ShardEntry,
    entry_faults,
    key_fault,
    suffix_fault,
)
from datamodules.shards.scan import FactsOf, scan_shard

#: What a shard is called while it is written.
_PARTIAL = ".tmp"


def write_tar_shards(
    samples: Iterable[tuple[str, Mapping[str, bytes]]],
    output: str | Path,
    schema: str,
    facts_of: FactsOf,
    *,
    samples_per_shard: int = 64,
    max_bytes: int = 1 << 30,
    made_from: Mapping[str, Any] | None = None,
) -> Index:
    """Write samples as they come, one in memory at a time: ``OUTPUT-000000.tar`` ... and ``OUTPUT.index.json``.

    Nothing has its final name before all of it is written, the index last.

    Args:
        samples: (key, {suffix without the leading dot: content}) pairs.
        output: folder and common name, as ``data/train``; the folder is made if need be.
        schema: what the members mean, one of `SCHEMA_VERSIONS`.
        facts_of: makes a sample's facts in the index from its key, its row and its members' names.
        samples_per_shard: a shard is closed after as many.
        max_bytes: or before it would pass this, headers not counted.
        made_from: for side shards: {"fingerprint": of the source's index, ...}, see `Index.made_from`.

    Returns:
        The index as written.

    Raises:
        ValueError: a refused key, member or sample, a key that comes twice, no sample, shards that exist already, or
            `samples_per_shard` below 1.
    """
    output = Path(output)
    if samples_per_shard < 1:
        raise ValueError(f"samples_per_shard is {samples_per_shard}; give 1 or more")
    _refuse_existing(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    shards: list[ShardEntry] = []
    entries: list[SampleEntry] = []

    def seal(partial: str) -> None:
        shard, samples_of_shard = scan_shard(Path(partial), len(shards), facts_of)
        shards.append(replace(shard, address=partial.removesuffix(_PARTIAL)))
        entries.extend(samples_of_shard)

    try:
        _write_tars(samples, output, samples_per_shard, max_bytes, seal)
        index = _index(schema, shards, entries, made_from)
        for shard in shards:
            Path(f"{shard.address}{_PARTIAL}").replace(shard.address)
    finally:
        for partial in shard_files(output, f".tar{_PARTIAL}"):
            partial.unlink()
    index.write(f"{output}.index.json")
    return index


def index_tar_shards(
    paths: Sequence[str | Path],
    schema: str,
    facts_of: FactsOf,
    *,
    made_from: Mapping[str, Any] | None = None,
) -> Index:
    """The index of tar shards that exist already; the index must be written into their folder.

    Args:
        paths: local ``.tar`` files, all in one folder, in the order of their positions.
        schema: what the members mean, one of `SCHEMA_VERSIONS`.
        facts_of: makes a sample's facts in the index from its key, its row and its members' names.
        made_from: see `Index.made_from`.

    Raises:
        ValueError: everything that is wrong with any of the shards, at once.
    """
    files = [Path(path) for path in paths]
    faults: list[str] = []
    if len({file.parent.resolve() for file in files}) > 1:
        faults.append("the shards lie in several folders; one index describes one folder")
    shards: list[ShardEntry] = []
    entries: list[SampleEntry] = []
    for file in files:
        try:
            shard, samples_of_shard = scan_shard(file, len(shards), facts_of)
        except ValueError as error:
            faults.append(str(error))
        else:
            shards.append(shard)
            entries += samples_of_shard
    if faults:
        raise ValueError("\n".join(faults))
    return _index(schema, shards, entries, made_from)


def _write_tars(
    samples: Iterable[tuple[str, Mapping[str, bytes]]],
    output: Path,
    samples_per_shard: int,
    max_bytes: int,
    seal: Callable[[str], None],
) -> None:
    """Write tar files under their partial names, calling `seal` with each one's path once it is closed."""
    from webdataset import ShardWriter

    # Opened here: webdataset's own opener would run a path that begins with "pipe:".
    opened: list[IO[bytes]] = []

    def open_next(path: str) -> IO[bytes]:
        opened.append(Path(path).open("wb"))  # noqa: SIM115 closed by `close`, in the end by `finally`
        return opened[-1]

    def close(path: str) -> None:
        opened[-1].flush()
        os.fsync(opened[-1].fileno())
        opened[-1].close()
        seal(path)

    # A fixed time makes equal samples equal bytes, and so equal fingerprints.
    pattern = str(output).replace("%", "%%") + f"-%06d.tar{_PARTIAL}"
    settings = {"encoder": False, "mtime": 0, "verbose": 0, "opener": open_next, "post": close}
    writer = None
    try:
        for key, members in samples:
            if faults := [why for why in (key_fault(key), *map(suffix_fault, members)) if why]:
                raise ValueError(f"sample {key!r}: " + "; ".join(faults))
            writer = writer or ShardWriter(pattern, maxcount=samples_per_shard, maxsize=max_bytes, **settings)
            writer.write({"__key__": key, **members})
        if writer is None:
            raise ValueError(f"{output}: there is no sample to write")
        writer.close()
    except BaseException:
        if writer is not None:
            writer.post = None  # close the tar, but do not seal half a shard
            writer.close()
        raise
    finally:
        for file in opened:
            file.close()


def _index(
    schema: str, shards: list[ShardEntry], entries: list[SampleEntry], made_from: Mapping[str, Any] | None
) -> Index:
    if faults := entry_faults(shards, entries):
        raise ValueError("\n".join(faults))
    return Index(schema, tuple(shards), tuple(entries), dict(made_from or {}), SCHEMA_VERSIONS[schema])


def _refuse_existing(output: Path) -> None:
    """A sealed shard is never rewritten."""
    there = [path for path in (Path(f"{output}.index.json"), *shard_files(output)) if path.exists()]
    if there:
        names = ", ".join(path.name for path in there[:3]) + (" ..." if len(there) > 3 else "")
        raise ValueError(f"{output.parent}: {names} are there already; delete them, or choose another name")


def shard_files(output: Path, ending: str = ".tar") -> list[Path]:
    """The shards of one output that are there, in order: ``OUTPUT-000000.tar`` ... and no other name.

    The name is compared and not expanded: an output may be called ``tr[ai]n``, and ``train-part1-000000.tar`` is none
    of ``train``.
    """
    form = re.compile(rf"{re.escape(output.name)}-\d{{6,}}{re.escape(ending)}", re.ASCII)
    there = output.parent.iterdir() if output.parent.is_dir() else ()
    return sorted(path for path in there if form.fullmatch(path.name))
