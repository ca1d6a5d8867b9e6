"""What a module's `predict_step` hands to a writer, and what a writer asks of the data module behind it.

A predict run is a list of named samples, each made once: the data module knows all their keys in order, the writer
knows which are on disk, and tells the data module to leave those out.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True)
class WrittenSample:
    """One sample for a shard.

    Attributes:
        key: the sample's name, that of the sample it was made from.
        members: suffix without the leading dot ("first.mp4", "json") -> content.
    """

    key: str
    members: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class WrittenVideo:
    """One video for a folder of videos.

    Attributes:
        key: the request's name, see `VideoRequest`.
        mp4: the video.
    """

    key: str
    mp4: bytes


@dataclass(frozen=True, slots=True)
class VideoRequest:
    """One video that is asked for: sample `index` of a prompt.

    Attributes:
        key: names the request in its run.
        prompt: the text.
        index: from 0; another index is another seed.
    """

    key: str
    prompt: str
    index: int


class SkippableData(Protocol):
    """A data module whose `predict` run can be continued."""

    @property
    def keys(self) -> Sequence[str]:
        """The keys of all samples in the source's order, whatever is skipped; from `setup` on."""

    @property
    def fingerprint(self) -> str:
        """Of what the samples are read from; from `setup` on."""

    def skip(self, keys: Collection[str]) -> None:
        """Leave these samples out; called on every rank, after `setup` and before the loader is made."""


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line for each field in which two descriptions differ; a field within a field is written ``policy.path``."""
    flat_before, flat_now = _flat(before), _flat(now)
    names = [*flat_before, *(name for name in flat_now if name not in flat_before)]
    shown = [(name, _shown(flat_before, name), _shown(flat_now, name)) for name in names]
    return [f"{name} was {was}, is {now}" for name, was, now in shown if was != now]


def plain(value: Any) -> Any:
    """A description as JSON gives it back: lists for tuples, text for keys."""
    return json.loads(json.dumps(value))


def json_bytes(record: Any) -> bytes:
    """A JSON member."""
    return json.dumps(record).encode()


def tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """A safetensors member, the tensors as they are but on the CPU."""
    from safetensors.torch import save

    content: bytes = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    return content


def _flat(value: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, one in value.items():
        found |= _flat(one, f"{before}{name}.") if isinstance(one, Mapping) else {f"{before}{name}": one}
    return found


def _shown(flat: Mapping[str, Any], name: str) -> str:
    return json.dumps(flat[name]) if name in flat else "not there"
