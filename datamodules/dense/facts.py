"""What an index tells of videos, encoded videos, pairs and labels, and how each is checked on its way into a shard.

Facts are the rows without their texts, `VideoFacts` spread out. `prepare verify` and the data modules read tensors
through this door too, so that what is refused is refused by both.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from datamodules.dense.inputs import CONDITION_TENSORS, Condition, Prompt
from datamodules.dense.rows import LabelRow, LatentRow, PairRow, VideoRow

LATENTS, PROMPT = "latents.safetensors", "prompt.safetensors"

_VIDEO = ("frames", "fps", "width", "height")
#: Stands for a text that the index does not hold; it was checked where the row entered.
_TEXT = "-"
_RowT = TypeVar("_RowT", VideoRow, LatentRow, PairRow, LabelRow)


def video_sample_facts(key: str, record: Any, suffixes: Collection[str]) -> dict[str, Any]:
    """The facts of a sample of schema "vidpref/videos", its row and members checked against each other.

    Raises:
        ValueError: lists every fault.
    """
    return _spread(_checked(VideoRow, key, record, suffixes, ("mp4",)).to_json(), "caption")


def video_pair_sample_facts(key: str, record: Any, suffixes: Collection[str]) -> dict[str, Any]:
    """The same for schema "vidpref/video_pairs".

    Raises:
        ValueError: lists every fault.
    """
    return _spread(_checked(VideoRow, key, record, suffixes, ("first.mp4", "second.mp4")).to_json(), "caption")


def latent_sample_facts(key: str, record: Any, suffixes: Collection[str]) -> dict[str, Any]:
    """The same for schema "vidpref/latents".

    Raises:
        ValueError: lists every fault.
    """
    return _spread(_checked(LatentRow, key, record, suffixes, (LATENTS, PROMPT)).to_json(), "caption")


def pair_sample_facts(key: str, record: Any, suffixes: Collection[str]) -> dict[str, Any]:
    """The same for schema "vidpref/pairs".

    Raises:
        ValueError: lists every fault.
    """
    members = ("first.mp4", "second.mp4", LATENTS, PROMPT)
    return _spread(_checked(PairRow, key, record, suffixes, members).to_json(), "prompt")


def label_sample_facts(key: str, record: Any, suffixes: Collection[str]) -> dict[str, Any]:
    """The same for schema "vidpref/labels".

    Raises:
        ValueError: lists every fault.
    """
    facts = _checked(LabelRow, key, record, suffixes, ()).to_json()
    # Not what the judge replied: an index is read whole at every start.
    return {name: facts[name] for name in ("labels", "frames_per_segment", "whole", "judge")}


def latent_row(key: str, facts: Mapping[str, Any]) -> LatentRow:
    """The row of an encoded video, but for its caption."""
    return LatentRow.from_json({**_gathered(facts), "key": key, "caption": _TEXT})


def pair_row(key: str, facts: Mapping[str, Any]) -> PairRow:
    """The row of a pair, but for its prompt."""
    return PairRow.from_json({**_gathered(facts), "key": key, "prompt": _TEXT})


def label_row(key: str, facts: Mapping[str, Any]) -> LabelRow:
    """The row of a pair's labels, but for what the judge answered."""
    return LabelRow.from_json({**facts, "key": key})


def read_latents(content: bytes, names: Sequence[str], shape: Sequence[int]) -> dict[str, Tensor]:
    """Some of a sample's latents by name.

    Args:
        content: of ``key.latents.safetensors``.
        names: the tensors to read.
        shape: (C, F, H, W), what the index says of each.

    Returns:
        Name -> (C, F, H, W) float32.

    Raises:
        ValueError: one is missing, of another shape, or not finite.
    """
    latents = _tensors(content, LATENTS)
    for name in names:
        if name not in latents:
            raise ValueError(f".{LATENTS} holds {sorted(latents)}, not {name!r}; make the sample again, with {name!r}")
        if list(latents[name].shape) != list(shape):
            raise ValueError(f".{LATENTS}: {name} is {list(latents[name].shape)}, the index says {list(shape)}")
        _require_finite(latents[name], f".{LATENTS}: {name}")
    # Shards may hold half precision; losses are computed in float32.
    return {name: latents[name].float() for name in names}


def read_condition(content: bytes, facts: Mapping[str, Any]) -> Condition:
    """What a sample gives the model beside its prompt: its frame rate, and what it holds of an image.

    Args:
        content: of ``key.latents.safetensors``.
        facts: the sample's, in the index.

    Raises:
        ValueError: a tensor of the image is missing, of another shape than the index says, or not finite.
    """
    shapes = {name: facts.get(f"{name}_shape") for name in CONDITION_TENSORS}
    held = {name: shape for name, shape in shapes.items() if shape is not None}
    tensors: dict[str, Any] = {name: read_latents(content, (name,), shape)[name] for name, shape in held.items()}
    return Condition(facts["fps"], **tensors)


def read_prompt(content: bytes) -> Prompt:
    """The prompt's embeddings by stream, float32, from the content of ``key.prompt.safetensors``.

    Returns:
        "embeds" (n, D) with n at least 1, and whatever streams the family has beside it.

    Raises:
        ValueError: there is no such stream, it is empty, or one is not finite.
    """
    streams = _tensors(content, PROMPT)
    if "embeds" not in streams or streams["embeds"].ndim != 2 or not streams["embeds"].numel():
        shapes = {name: list(stream.shape) for name, stream in streams.items()}
        raise ValueError(
            f".{PROMPT} holds {shapes}, not embeds (n, D) of a prompt; make the sample again, with a prompt"
        )
    for name, stream in streams.items():
        _require_finite(stream, f".{PROMPT}: {name}")
    return {name: stream.float() for name, stream in streams.items()}


def tensor_fault(suffix: str, content: bytes, members: Collection[str], facts: Mapping[str, Any]) -> str | None:
    """Why a member with tensors cannot be used, for `prepare verify`; None = it can."""
    try:
        if suffix == LATENTS and "latent_shape" in facts:
            # Pairs and encoded videos call their latents' member alike; only pairs have two videos.
            names = ("first", "second") if "first.mp4" in members else ("clean",)
            read_latents(content, names, facts["latent_shape"])
            read_condition(content, facts)
        elif suffix == PROMPT and "latent_shape" in facts:
            read_prompt(content)
        else:
            _tensors(content, suffix)
    except ValueError as error:
        return str(error)
    return None


def _checked(kind: type[_RowT], key: str, record: Any, suffixes: Collection[str], members: Sequence[str]) -> _RowT:
    """The row that a record holds, its key and the sample's members being right."""
    try:
        row = kind.from_json(record)
        faults = [str(fault) for fault in row.faults()]
    # A record of another form fails in any of these ways.
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise ValueError(f".json is not a {kind.__name__}: {error}") from error
    if row.key != key:
        faults.append(f"key: the row says {row.key!r}")
    faults += [f".{suffix} is missing" for suffix in members if suffix not in suffixes]
    if faults:
        raise ValueError("; ".join(faults))
    return row


def _spread(row: dict[str, Any], text: str) -> dict[str, Any]:
    """A row's JSON as facts: without key and text, the video's numbers beside the others."""
    facts = {name: value for name, value in row.items() if name not in ("key", "video", text)}
    return {**facts, **row["video"]}


def _gathered(facts: Mapping[str, Any]) -> dict[str, Any]:
    """`_spread` undone."""
    row = {name: value for name, value in facts.items() if name not in _VIDEO}
    return {**row, "video": {name: facts[name] for name in _VIDEO}}


def _tensors(content: bytes, suffix: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors: dict[str, Tensor] = load(content)
    # A dtype that torch does not have is a KeyError of safetensors.
    except (SafetensorError, KeyError) as error:
        raise ValueError(f".{suffix} cannot be read: {error}") from error
    return tensors


def _require_finite(tensor: Tensor, what: str) -> None:
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{what} has values that are not finite; make the sample again")
