"""What is checked before training (cheap, from the index), and what `prepare verify` checks (every byte)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datamodules.dense.facts import tensor_fault
from datamodules.shards.byte_reader import BadSampleError, ByteReader, ReadFailedError, is_remote
from datamodules.shards.index import Index, SampleEntry, Schemas, ShardEntry, joined
from datamodules.shards.sample_reader import SampleReader
from datamodules.shards.scan import file_sha256


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
    for index in indexes:
        faults += shard_faults(index, reader)
    if faults:
        raise ValueError("\n".join(faults))
    return indexes


def check(index: Index, reader: ByteReader | None = None) -> None:
    """Before training: every shard exists and has the size that the index says.

    Raises:
        ValueError: lists every shard that is not so.
    """
    if faults := shard_faults(index, reader):
        raise ValueError("\n".join(faults))


def shard_faults(index: Index, reader: ByteReader | None = None) -> list[str]:
    """The shards that are missing or of another size; several servers' answers are awaited at once."""
    reader = reader or ByteReader()

    def fault(shard: ShardEntry) -> str | None:
        try:
            size = reader.size(shard.address)
        except FileNotFoundError:
            return f"{shard.address}: no such shard; copy it there, or make the index anew"
        except ReadFailedError as error:
            return str(error)
        if size in (None, shard.bytes):
            return None
        return f"{shard.address}: has {size} bytes, the index says {shard.bytes}; copy it again, or make the index anew"

    with ThreadPoolExecutor(8) as threads:
        return [why for why in threads.map(fault, index.shards) if why]


def verify(path: str | Path, decode: bool = True, reader: ByteReader | None = None) -> list[str]:
    """Every check at once: sizes, the shards' sha256 (local ones), each member's checksum, and that each decodes.

    Args:
        path: ``NAME.index.json``, local or remote.
        decode: also decode every frame and parse every other member.
        reader: fetches bytes; None = one with default retries.

    Returns:
        One line for each problem, naming shard and key; empty = sound.
    """
    try:
        index = Index.read(path, reader=reader)
    except ValueError as error:
        return [str(error)]
    problems = shard_faults(index, reader)
    if problems:
        return problems
    for shard in index.shards:
        if not is_remote(shard.address) and file_sha256(Path(shard.address)) != shard.sha256:
            problems.append(f"{shard.address}: its sha256 differs from the index, bytes were altered")
        if not shard.count:
            problems.append(f"{shard.address}: holds no sample; delete it and make the index anew")
    return problems + list(_sample_problems(index, SampleReader(index, reader or ByteReader()), decode))


def _sample_problems(index: Index, samples: SampleReader, decode: bool) -> Iterator[str]:
    for position, entry in enumerate(index.entries):
        for suffix in entry.members:
            try:
                content = samples.read(position, [suffix])[suffix]
            except (BadSampleError, ReadFailedError) as error:
                yield str(error)
                continue
            if decode and (why := _undecodable(entry, suffix, content)):
                yield f"{index.address(position)}: sample {entry.key!r}: .{suffix}: {why}"


def _undecodable(entry: SampleEntry, suffix: str, content: bytes) -> str | None:
    kind = suffix.rsplit(".", 1)[-1]
    try:
        if kind == "mp4":
            return _video_fault(entry, suffix, content)
        if kind == "safetensors":
            return tensor_fault(suffix, content, entry.members, entry.facts)
        _DECODERS[kind](content)
    except Exception as error:  # each decoder has errors of its own, and any of them is the finding
        return f"{type(error).__name__}: {error}"
    return None


def _video_fault(entry: SampleEntry, suffix: str, content: bytes) -> str | None:
    """Decodes up to the last frame, and compares with what the facts say of that member."""
    from datamodules.video.codec import decode_frames, probe

    found = probe(content, constant_rate=True)
    decode_frames(content, [found.frames - 1])
    whole = ("mp4", "first.mp4", "second.mp4")  # what the facts of the sample itself speak of
    told = entry.facts if suffix in whole else entry.facts.get(suffix.removesuffix(".mp4"))
    wrong = [
        f"{name} is {value:g}, the index says {told[name]:g}"
        for name, value in asdict(found).items()
        if isinstance(told, dict) and name in told and abs(told[name] - value) > 1e-3 * value
    ]
    return "; ".join(wrong) or None


def _load_image(content: bytes) -> None:
    from datamodules.video.codec import decode_image

    decode_image(content)


_DECODERS: dict[str, Callable[[bytes], Any]] = {
    "json": json.loads,
    "jpg": _load_image,
}
