"""Outputs of a module's `predict_step` for a writer, and what a writer needs of the data module behind it.

A predict run is a list of named samples, each made once: the data module knows all their keys in order, the writer
knows which are on disk, and tells the data module to leave those out.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

#: The field of a description that says what is in the files which its other fields name: setting -> hash.
CONTENTS = "contents"
#: Within such hashes: those of the files' bytes where they are others. Earlier releases recorded them as the hash.
OF_BYTES = "of_bytes"
#: What earlier releases wrote instead: setting -> hash of names, sizes and times.
_STAMPS = "files"


@dataclass(frozen=True, slots=True)
class WrittenSample:
    """One sample for a shard.

    Attributes:
        key: the sample's name, that of the sample it was made from.
        members: suffix without the leading dot ("first.mp4", "json") -> content.
        facts: what the index says of it; None = what its schema reads from its members.
    """

    key: str
    members: Mapping[str, bytes]
    facts: Mapping[str, Any] | None = None


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
class WrittenRow:
    """One row for a file of JSON lines.

    Attributes:
        key: the row's name.
        row: its fields; None = it is left out.
        outcomes: what became of each part of it ("boxes": "kept"), which are counted over all rows.
        why: why it is left out; "" = it is not.
    """

    key: str
    row: Mapping[str, Any] | None
    outcomes: Mapping[str, str]
    why: str = ""


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
    """One line for each field in which two descriptions differ; a field within a field is written ``policy.path``.

    The content of files that only one of them knows is no difference, see `uncompared`; nor are other bytes that hold
    the same.
    """
    flat_before, _ = _without_bytes(_flat(before))
    flat_now, of_bytes = _without_bytes(_flat(now))
    names = [*flat_before, *(name for name in flat_now if name not in flat_before)]
    lines = []
    for name in names:
        was, is_now = (json.dumps(flat[name]) if name in flat else "not there" for flat in (flat_before, flat_now))
        setting, stamped = _setting(name, CONTENTS), _setting(name, _STAMPS)
        # An earlier release knew no hash of the content, or its stamp, which a hash has replaced.
        unknown = setting and name not in flat_before
        former = stamped and any(_setting(other, CONTENTS) == stamped for other in flat_now)
        # An earlier release recorded the hash of the bytes as that of the content.
        same_bytes = name in of_bytes and flat_before.get(name) == of_bytes[name]
        if was == is_now or unknown or former or same_bytes:
            continue
        line = f"{name} was {was}, is {is_now}"
        if setting:
            line = f"the files that {setting} names have been replaced: their hash was {was}, is {is_now}"
        elif name == "fingerprint":
            line = f"the samples are others, or were prepared again: their fingerprint was {was}, is {is_now}"
        lines.append(line)
    return lines


def uncompared(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The settings, as ``policy.path``, of whose files a description from an earlier release does not say the content.

    Whether those files are still the same cannot be known.
    """
    known, (names, _) = _flat(before), _without_bytes(_flat(now))
    return [setting for name in names if (setting := _setting(name, CONTENTS)) and name not in known]


def plain(value: Any) -> Any:
    """A description as JSON gives it back: lists for tuples, text for keys."""
    return json.loads(json.dumps(value))


def json_bytes(record: Any) -> bytes:
    """A JSON member."""
    return json.dumps(record).encode()


def tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """A safetensors member, the tensors as they are but on the CPU."""
    from safetensors.torch import save

    # safetensors takes no views: a slice would be refused, or stored with what it is a slice of.
    content: bytes = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    return content


def _setting(name: str, group: str) -> str:
    """The setting that a field of a group is about: ``policy.contents.path`` is about ``policy.path``; "" = none."""
    before, separator, after = f".{name}".partition(f".{group}.")
    return f"{before}.{after}".strip(".") if separator else ""


def _without_bytes(flat: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields that are compared; and of `OF_BYTES`, the hashes by the names of the fields that they belong to."""
    marker = f".{OF_BYTES}."
    of_bytes = {name.replace(marker, "."): value for name, value in flat.items() if marker in name}
    return {name: value for name, value in flat.items() if marker not in name}, of_bytes


def _flat(value: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, item in value.items():
        flat |= _flat(item, f"{before}{name}.") if isinstance(item, Mapping) else {f"{before}{name}": item}
    return flat
