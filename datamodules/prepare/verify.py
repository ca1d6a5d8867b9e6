"""Checks of `prepare verify`: every byte, and that everything decodes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from datamodules.dense.facts import tensor_fault
from datamodules.shards.byte_reader import BadSampleError, ByteReader, ReadFailedError, is_remote
from datamodules.shards.checks import Tell, shard_faults
from datamodules.shards.index import Index, SampleEntry
from datamodules.shards.sample_reader import SampleReader
from datamodules.shards.scan import file_sha256


def verify(
    path: str | Path, decode: bool = True, reader: ByteReader | None = None, tell: Tell = lambda *_: None
) -> list[str]:
    """Every check at once: sizes, the shards' sha256 (local ones), each member's checksum, and that each decodes.

    Args:
        path: ``NAME.index.json``, local or remote.
        decode: also decode every frame and parse every other member.
        reader: fetches bytes; None = one with default retries.
        tell: is called after each shard ("shards") and after each sample ("samples"), with how many are done and all.

    Returns:
        One line for each problem, naming shard and key; empty = sound.
    """
    try:
        index = Index.read(path, reader=reader)
        # Of the samples, whatever the file says; of one with columns this also checks every fact.
        fingerprint = replace(index).fingerprint
    except ValueError as error:
        return [str(error)]
    if fingerprint != index.fingerprint:
        return [f"{path}: its fingerprint is not that of its samples; make it again with `vidpref prepare index`"]
    # Where bytes are missing, every later check would fail for the same reason.
    problems = shard_faults(index, reader)
    if problems:
        return problems
    # Remote shards are not read twice: their members' checksums, below, cover all that is used of them.
    for done, shard in enumerate(index.shards, 1):
        if not is_remote(shard.address) and file_sha256(Path(shard.address)) != shard.sha256:
            problems.append(f"{shard.address}: its sha256 differs from the index, bytes were altered")
        if not shard.count:
            problems.append(f"{shard.address}: holds no sample; delete it and make the index again")
        tell("shards", done, len(index.shards))
    return problems + list(_sample_problems(index, SampleReader(index, reader or ByteReader()), decode, tell))


def _sample_problems(index: Index, samples: SampleReader, decode: bool, tell: Tell) -> Iterator[str]:
    for position, entry in enumerate(index.entries):
        # One by one, so that an altered member does not hide what is wrong with the next.
        for suffix in entry.members:
            try:
                content = samples.read(position, [suffix])[suffix]
            except (BadSampleError, ReadFailedError) as error:
                yield str(error)
                continue
            if decode and (why := _undecodable(entry, suffix, content)):
                yield f"{index.address(position)}: sample {entry.key!r}: .{suffix}: {why}"
        tell("samples", position + 1, len(index))


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
    """Decode every frame, and compare the video with what the facts say of that member."""
    from datamodules.video.codec import probe

    video = probe(content, constant_rate=True, every_frame=True)
    # The facts of a sample are those of its main videos; of another one they have a field.
    main = ("mp4", "first.mp4", "second.mp4")
    name = "negative" if suffix == "rejected.mp4" else suffix.removesuffix(".mp4")
    facts = entry.facts if suffix in main else entry.facts.get(name)
    if not isinstance(facts, dict):
        return None
    # With a tolerance: a rate is a fraction in the container and a decimal in the index.
    wrong = [
        f"{name} is {value:g}, the index says {facts[name]:g}"
        for name, value in asdict(video).items()
        if name in ("frames", "fps") and name in facts and abs(facts[name] - value) > 1e-3 * value
    ]
    said = replace(video, **{name: facts[name] for name in ("width", "height") if name in facts})
    if fault := said.size_fault(video.width, video.height):
        wrong.append(fault)
    return "; ".join(wrong) or None


def _load_image(content: bytes) -> None:
    from datamodules.video.codec import decode_image

    decode_image(content)


_DECODERS: dict[str, Callable[[bytes], Any]] = {
    "json": json.loads,
    "jpg": _load_image,
}
