"""Types and ranges of the fields of an index, so that one of somebody else's making is refused where it is read.

Version 2 has optional fields that version 1 has not. An index is written as version 1 where none of its samples uses
one, so that it has the same fingerprint as before and is read by earlier releases.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

#: Faults that are listed; the others are counted.
_LISTED = 10
#: Lists and objects within each other that facts may have; ours have four.
DEPTH = 16
_VIDEO = ("frames", "fps", "width", "height")
#: Schema -> the facts that a sample must have.
_REQUIRED: Mapping[str, Sequence[str]] = {
    "vidpref/vista": ("video_id", *_VIDEO),
    "vidpref/videos": ("video_id", *_VIDEO),
    "vidpref/latents": ("video_id", *_VIDEO, "latent_shape"),
    "vidpref/pairs": ("video_id", *_VIDEO, "latent_shape"),
    "vidpref/video_pairs": ("video_id", *_VIDEO),
    "vidpref/labels": ("labels", "frames_per_segment"),
}


#: Facts that version 1 does not have.
_SECOND = frozenset({"prompt_shapes", "image_shape", "image_states_shape", "negative", "visible"})


def version_of(facts: Iterable[Mapping[str, Any]]) -> int:
    """The lowest version of a schema that holds these samples' facts."""
    return max(map(_fact_version, facts), default=1)


def _fact_version(facts: Mapping[str, Any]) -> int:
    newer_value = (
        facts.get("kind") == "imported"
        or (isinstance(space := facts.get("latent_space"), dict) and "leading_frames" in space)
        or isinstance(facts.get("eta"), list)
        or any(name in facts and facts[name] is None for name in ("eta", "seeds"))
    )
    return 2 if newer_value or not _SECOND.isdisjoint(facts) else 1


def field_faults(schema: str, content: Mapping[str, Any]) -> str:
    """What is wrong with the fields of an index's JSON object, the first faults in one line; "" = nothing."""
    faults: list[str] = []
    count = 0
    for fault in _faults(schema, content):
        count += 1
        if count <= _LISTED:
            faults.append(fault)
    return "; ".join(faults) + (f"; and {count - _LISTED} more" if count > _LISTED else "")


def header_faults(content: Mapping[str, Any]) -> str:
    """What is wrong with the fields of an index whose samples are columns, in one line; "" = nothing."""
    faults = [*_made_from_faults(content)]
    shards, columns = content.get("shards"), content.get("columns")
    if isinstance(shards, list):
        faults += [
            f"shard number {number}: {why}" for number, shard in enumerate(shards) for why in _shard_faults(shard)
        ]
    else:
        faults.append("shards is not a list")
    if not isinstance(content.get("fingerprint"), str):
        faults.append(f"fingerprint is {shortened(content.get('fingerprint'))}, not a text")
    if not _whole(content.get("samples"), 0):
        faults.append(f"samples is {shortened(content.get('samples'))}, not a whole number from 0 on")
    texts = isinstance(columns, dict) and all(isinstance(columns.get(name), str) for name in ("name", "checksum"))
    if not (isinstance(columns, dict) and texts and _whole(columns.get("bytes"), 0)):
        faults.append(f"columns is {shortened(columns)}, not name, bytes and checksum of a file")
    return "; ".join(faults[:_LISTED]) + (f"; and {len(faults) - _LISTED} more" if len(faults) > _LISTED else "")


def _made_from_faults(content: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(content.get("made_from", {}), dict) or deeper(content.get("made_from")):
        yield f"made_from is {shortened(content.get('made_from'))}, not an object of plain values"


def _faults(schema: str, content: Mapping[str, Any]) -> Iterator[str]:
    yield from _made_from_faults(content)
    shards, samples = content.get("shards"), content.get("samples")
    if not isinstance(shards, list) or not isinstance(samples, list):
        yield "shards and samples are not both lists"
        return
    sizes: list[int] = []
    for number, shard in enumerate(shards):
        faults = [f"shard number {number}: {why}" for why in _shard_faults(shard)]
        yield from faults
        sizes.append(0 if faults else shard["bytes"])
    for number, sample in enumerate(samples):
        if not isinstance(sample, dict) or not isinstance(sample.get("key"), str):
            yield f"sample number {number} is {shortened(sample)}, not an object with a key"
            continue
        why = place_fault(sample, sizes) or facts_fault(sample.get("facts"), schema)
        if why:
            yield f"sample {sample['key']!r}: {why}"


def _shard_faults(shard: Any) -> list[str]:
    if not isinstance(shard, dict):
        return [f"is {shortened(shard)}, not an object"]
    texts = [name for name in ("name", "sha256") if not isinstance(shard.get(name), str)]
    numbers = [name for name in ("bytes", "count") if not _whole(shard.get(name), 0)]
    return [
        *(f"{name} is {shortened(shard.get(name))}, not a text" for name in texts),
        *(f"{name} is {shortened(shard.get(name))}, not a whole number from 0 on" for name in numbers),
    ]


def place_fault(sample: Mapping[str, Any], sizes: Sequence[int]) -> str | None:
    """What is wrong with where a sample's members lie."""
    shard: Any = sample.get("shard")
    members = sample.get("members")
    if not _whole(shard, 0):
        return f"shard is {shortened(shard)}, not a whole number from 0 on"
    if not isinstance(members, dict):
        return f"members is {shortened(members)}, not an object"
    end = sizes[shard] if shard < len(sizes) else None  # another check says how many shards there are
    for suffix, member in members.items():
        if not isinstance(member, list) or len(member) != 3:
            return f".{suffix} is {shortened(member)}, not [offset, size, checksum]"
        offset, size, checksum = member
        if not (_whole(offset, 0) and _whole(size, 0) and isinstance(checksum, str)):
            return f".{suffix} is {shortened(member)}, not two whole numbers from 0 on and a text"
        if end is not None and offset + size > end:
            return f".{suffix} ends at byte {offset + size}, its shard has {end}"
    return None


def required_facts(schema: str) -> Sequence[str]:
    """The facts that each sample of a schema has."""
    return _REQUIRED.get(schema, ())


def facts_fault(facts: Any, schema: str) -> str | None:
    """What is wrong with a sample's facts."""
    if not isinstance(facts, dict) or deeper(facts):
        return f"facts is {shortened(facts)}, not an object of plain values"
    if schema not in _REQUIRED:
        return None
    for name in _REQUIRED[schema]:
        if name not in facts:
            return f"facts have no {name}"
    for name, value in facts.items():
        if name in _CHECKS:
            good, expected = _CHECKS[name]
            if not good(value):
                return f"{name} is {shortened(value)}, not {expected}"
    return None


def _whole(value: Any, least: float) -> bool:
    # A bool is an int to Python, and would pass for 0 or 1.
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _number(value: Any) -> bool:
    # JSON itself has neither, but Python's reader takes NaN and Infinity.
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _video(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, dict) or value.keys() != set(_VIDEO):
        return False
    return all(_CHECKS[name][0](value[name]) for name in _VIDEO)


def _shape(value: Any, sizes: int, least: int = 1) -> bool:
    return isinstance(value, list) and len(value) == sizes and all(_whole(size, least) for size in value)


def _prompt_shapes(value: Any) -> bool:
    if not isinstance(value, dict) or "embeds" not in value:
        return False
    # (D,) pooled or (n, D) tokens; a stream beside the embeddings may be empty, n = 0.
    return all(_shape(shape, 1) or (_shape(shape, 2, 0) and shape[1]) for shape in value.values())


def _eta(value: Any) -> bool:
    return value is None or _number(value) or (isinstance(value, list) and len(value) == 2 and all(map(_number, value)))


def _event(value: Any) -> bool:
    return value is None or (isinstance(value, list) and len(value) == 2 and all(map(_number, value)))


def _box(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) in (4, 5)
        and all(map(_number, value[:4]))
        and (value[4:] in ([], [None]) or _number(value[4]))
    )


#: Fact -> whether a value is one, and what it must be.
_CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "video_id": (lambda value: isinstance(value, str), "a text"),
    "source": (lambda value: isinstance(value, str), "a text"),
    "frames": (lambda value: _whole(value, 1), "a whole number from 1 on"),
    "width": (lambda value: _whole(value, 1), "a whole number from 1 on"),
    "height": (lambda value: _whole(value, 1), "a whole number from 1 on"),
    "fps": (lambda value: _number(value) and value > 0, "a number above 0"),
    "event": (_event, "[start, end] in seconds"),
    "boxes": (lambda value: isinstance(value, list) and all(map(_box, value)), "a list of [x, y, width, height, time]"),
    "clip": (_video, "frames, fps, width and height of a video"),
    "clip_negative": (_video, "frames, fps, width and height of a video"),
    "latent_shape": (lambda value: _shape(value, 4), "four whole numbers from 1 on"),
    "image_shape": (lambda value: _shape(value, 4), "four whole numbers from 1 on"),
    "image_states_shape": (lambda value: _shape(value, 2), "two whole numbers from 1 on"),
    "prompt_shape": (lambda value: value is None or _shape(value, 2), "two whole numbers from 1 on"),
    "prompt_shapes": (_prompt_shapes, "the shape of each of a prompt's tensors by name, embeds among them"),
    "kind": (lambda value: isinstance(value, str), "a text"),
    "eta": (_eta, "a number, one for each video, or null"),
    "seeds": (lambda value: value is None or _shape(value, 2, 0), "two whole numbers from 0 on, or null"),
    # Of VistaDPO: a given rejected video, and the part of the frames that was visible when the sample was made.
    "rejected": (lambda value: isinstance(value, bool), "true or false"),
    "negative": (_video, "frames, fps, width and height of a video"),
    "visible": (lambda value: value is None or (_box(value) and len(value) == 4), "[x, y, width, height] in pixels"),
    "labels": (
        lambda value: isinstance(value, list) and all(_whole(label, -math.inf) for label in value),
        "a list of whole numbers",
    ),
    "frames_per_segment": (lambda value: _whole(value, 1), "a whole number from 1 on"),
}


def deeper(value: Any, depth: int = DEPTH) -> bool:
    """Whether lists and objects lie deeper within each other: writing them out again would exhaust the stack."""
    if value.__class__ is dict:
        value = value.values()
    elif value.__class__ is not list:
        return False
    return not depth or any(deeper(inner, depth - 1) for inner in value)


def shortened(value: Any) -> str:
    """A value of any size and depth in a few characters."""
    if isinstance(value, dict | list) and deeper(value, 4):
        return "deeply nested"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
