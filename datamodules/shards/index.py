"""The index beside a set of shards: what is where, and what the plan must know before a byte is read.

``NAME.index.json`` is beside ``NAME-000000.tar``, ``NAME-000001.tar`` ... It can be read from a local path or an
http(s) or s3 address; the shards are looked for in the same folder. Up to `COLUMNS_FROM` samples it holds all of them
(format 1); of more it is a header, and the samples are columns in an Arrow file beside it (format 2). Both have the
same fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.shards.byte_reader import ByteReader, check_address
from datamodules.shards.column_files import column_file, remove_stray_columns
from datamodules.shards.entry_sequences import checksums_of, facts_of, keys_of
from datamodules.shards.files import write_whole
from datamodules.shards.index_fields import field_faults, header_faults

#: The schemas that this release reads, each with its newest version. All earlier versions are read, too.
SCHEMA_VERSIONS: dict[str, int] = {
    # PreferenceRow as key.json, videos as key.mp4, key.clip.mp4, key.clip_negative.mp4, key.rejected.mp4
    "vidpref/vista": 2,
    "vidpref/side": 1,  # knowledge added to other shards, see Index.made_from
    "vidpref/videos": 1,  # VideoRow, a real video as key.mp4
    # LatentRow, {"clean"[, "image"]} as key.latents.safetensors, {"embeds"[, ...]} as key.prompt.safetensors
    "vidpref/latents": 2,
    # PairRow, key.first.mp4, key.second.mp4, latents {"first", "second"[, "clean"][, "image"]}, the prompt
    "vidpref/pairs": 2,
    "vidpref/video_pairs": 1,  # VideoRow of two videos of one prompt, key.first.mp4, key.second.mp4
    "vidpref/labels": 1,  # LabelRow of a pair in other shards, see Index.made_from
}

#: Samples from which on an index has a column file. Below, one JSON opens in a tenth of a second, can be read by eye
#: and by earlier releases, and is one file where a writer makes an index for every sample.
COLUMNS_FROM = 1024

#: One schema, or several that will do.
Schemas = str | tuple[str, ...]

_SUFFIX = re.compile(r"(mp4|json|[A-Za-z0-9_-]+\.(mp4|safetensors|jpg))")
# A plain name: an index from elsewhere must not point out of its folder.
_SHARD_NAME = re.compile(r"[^/\\:]+\.tar")


class Member(NamedTuple):
    """Place of a sample's file in its shard: first byte, bytes, and the content's checksum (see `digest`)."""

    offset: int
    size: int
    checksum: str


@dataclass(frozen=True, slots=True)
class SampleEntry:
    """Sample: its key, the index of its shard, its members by suffix, and the facts that the plan needs."""

    key: str
    shard: int
    members: dict[str, Member]
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """Tar file: its address (the index stores the file name alone), bytes, sha256, and number of samples."""

    address: str
    bytes: int
    sha256: str
    count: int

    @property
    def name(self) -> str:
        """The file name."""
        return self.address.rsplit("/", 1)[-1]


def digest(data: bytes) -> str:
    """A member's checksum: 128 bits of BLAKE2b, in hex."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def key_fault(key: str) -> str | None:
    """Why a key cannot be used; None = it can. Keys may have folders, as ``part/000017``."""
    parts = key.split("/")
    if key.startswith("/") or ".." in parts:
        return "leaves its folder; a key is relative and has no '..'"
    if "" in parts or "." in parts or "\\" in key or not key.isprintable():
        return "has an empty part, a backslash or a control character"
    return "has a dot, where the suffix would begin" if "." in parts[-1] else None


def suffix_fault(suffix: str) -> str | None:
    """Why a member's suffix is refused; None = it is one of the few that are decoded."""
    if _SUFFIX.fullmatch(suffix):
        return None
    return f"member .{suffix} is refused; only .mp4 .json .<field>.mp4 .<field>.safetensors .<field>.jpg are read"


@dataclass(frozen=True, eq=False)
class Index:
    """Index of shards: what they hold, without their bytes.

    Attributes:
        schema: what the members mean, a key of `SCHEMA_VERSIONS`.
        shards: the tar files, in order.
        entries: the samples, shard by shard, in the order of the tar files; a sample's number is its position.
        made_from: for side shards, what their content was computed from: at least {"fingerprint": of the source's
            index}, and whatever else a reader must find unchanged (plain JSON types).
        version: the schema's version.
    """

    schema: str
    shards: tuple[ShardEntry, ...]
    entries: Sequence[SampleEntry]
    made_from: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1

    def __len__(self) -> int:
        return len(self.entries)

    def __getstate__(self) -> dict[str, Any]:
        # Workers look samples up by position; a spawned one would be sent every key.
        return {name: value for name, value in self.__dict__.items() if name != "positions"}

    @property
    def shard_counts(self) -> list[int]:
        """Samples per shard."""
        return [shard.count for shard in self.shards]

    @property
    def keys(self) -> list[str]:
        """Of all samples, in order."""
        return keys_of(self.entries)

    @cached_property
    def positions(self) -> dict[str, int]:
        """Key -> position."""
        return {key: position for position, key in enumerate(self.keys)}

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all content and facts; where the files are and what they are called does not matter."""
        shards = [(shard.bytes, shard.sha256, shard.count) for shard in self.shards]
        # Sorted: the order of an object's fields means nothing, and another program may have written them.
        head = json.dumps([self.schema, self.version, dict(self.made_from), shards], sort_keys=True)
        # Sample by sample, as one list would be: all of them as one text would be gigabytes.
        hasher, separator = hashlib.sha256(f"{head[:-1]}, [".encode()), ""
        for entry in self.entries:
            hasher.update(f"{separator}{json.dumps(_packed(entry), sort_keys=True)}".encode())
            separator = ", "
        hasher.update(b"]]")
        return hasher.hexdigest()

    def facts(self, name: str) -> list[Any]:
        """One fact of all samples, in order; None where a sample has none of that name."""
        return facts_of(self.entries, name)

    def checksums(self, suffix: str) -> list[str | None]:
        """The checksums of all samples' members of one suffix, in order; None where a sample has no such member."""
        return checksums_of(self.entries, suffix)

    def address(self, position: int) -> str:
        """The address of the shard that holds a sample."""
        return self.shards[self.entries[position].shard].address

    def write(self, path: str | Path) -> None:
        """Write the index, as a whole or not at all."""
        path = Path(path)
        write_whole(path, self.written_beside(path))
        remove_stray_columns(path, path)

    def written_beside(self, path: Path) -> bytes:
        """The content of the index's file, after its column file was written, where it has one.

        Args:
            path: where the index will be. A former index there keeps its own column file, see `remove_stray_columns`.
        """
        content = {
            "schema": self.schema,
            "version": self.version,
            "made_from": dict(self.made_from),
            "shards": [
                {"name": shard.name, "bytes": shard.bytes, "sha256": shard.sha256, "count": shard.count}
                for shard in self.shards
            ],
        }
        if len(self) < COLUMNS_FROM:
            content["samples"] = [_packed(entry) for entry in self.entries]
        else:
            # Imported here, and below: pyarrow takes a while, and smaller indexes do without.
            from datamodules.shards.index_columns import write_columns

            columns = write_columns(column_file(path, self.fingerprint), self.schema, self.entries, self.fingerprint)
            content |= {"format": 2, "samples": len(self), "fingerprint": self.fingerprint, "columns": columns}
        return json.dumps(content, separators=(",", ":")).encode()

    @classmethod
    def read(cls, path: str | Path, schema: Schemas | None = None, reader: ByteReader | None = None) -> Index:
        """Read an index from a local path or an http(s) or s3 address.

        Args:
            path: ``.../NAME.index.json``.
            schema: the schema, or several, that the caller understands; None = any known one.
            reader: fetches the bytes; None = one with default retries.

        Raises:
            ValueError: no such file, not an index, an unknown schema or version, or names that leave the folder.
        """
        address = check_address(str(path))
        try:
            content = json.loads((reader or ByteReader()).read_all(address))
        except FileNotFoundError as error:
            raise ValueError(f"{path}: no such index; `vidpref prepare index` makes one for existing shards") from error
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: is not an index ({error}); `vidpref prepare index` makes one") from error
        return _parsed(address, content, schema, reader or ByteReader())


def _packed(entry: SampleEntry) -> dict[str, Any]:
    members = {suffix: list(member) for suffix, member in entry.members.items()}
    return {"key": entry.key, "shard": entry.shard, "members": members, "facts": entry.facts}


def _parsed(address: str, content: Any, expected: Schemas | None, reader: ByteReader) -> Index:
    """The index that a JSON document holds; everything that is wrong with it in one ValueError."""
    schema: Any = content.get("schema") if isinstance(content, dict) else None
    known = SCHEMA_VERSIONS if expected is None else (expected,) if isinstance(expected, str) else expected
    if schema not in known:
        raise ValueError(f"{address}: schema {schema!r}, expected {' or '.join(known)}")
    if content.get("version") not in range(1, SCHEMA_VERSIONS[schema] + 1):
        raise ValueError(
            f"{address}: {schema} version {content.get('version')!r}, this release reads version 1 to "
            f"{SCHEMA_VERSIONS[schema]}; make the index again with `vidpref prepare index`, or update vidpref"
        )
    layout = content.get("format", 1)
    if layout not in (1, 2):
        raise ValueError(
            f"{address}: index format {layout!r}, this release reads 1 and 2; make the index again with `vidpref "
            "prepare index`, or update vidpref"
        )
    # Types first, so that what follows need not doubt any field.
    if damage := (field_faults(schema, content) if layout == 1 else header_faults(content)):
        raise ValueError(f"{address}: is damaged ({damage}); make it again with `vidpref prepare index`")
    folder = address.rsplit("/", 1)[0] + "/" if "/" in address else ""
    shards = [(shard["name"], shard["bytes"], shard["sha256"], shard["count"]) for shard in content["shards"]]
    named = tuple(ShardEntry(folder + name, size, sha256, count) for name, size, sha256, count in shards)
    faults = [f"shard {name!r} is not a plain file name" for name, *_ in shards if not _SHARD_NAME.fullmatch(name)]
    entries: Sequence[SampleEntry] = ()
    if layout == 1:
        entries = tuple(
            SampleEntry(row["key"], row["shard"], {s: Member(*m) for s, m in row["members"].items()}, row["facts"])
            for row in content["samples"]
        )
        faults += entry_faults(named, entries)
    elif not faults:
        from datamodules.shards.index_columns import open_columns

        entries = open_columns(address, content, named, reader)
    if faults:
        raise ValueError("\n".join([f"{address}:", *faults]))
    index = Index(schema, named, entries, content.get("made_from", {}), content["version"])
    if layout == 2:
        # Kept, as computing it would read every sample; of an index that is made from this one it is computed.
        index.__dict__["fingerprint"] = content["fingerprint"]
    return index


def entry_faults(shards: Sequence[ShardEntry], entries: Sequence[SampleEntry]) -> list[str]:
    """What is wrong with the samples of an index: keys, suffixes, doubles, the order and the number in each shard."""
    faults, seen, counts = [], set(), [0] * len(shards)
    for entry in entries:
        reasons = [key_fault(entry.key), *map(suffix_fault, entry.members)]
        reasons.append("appears twice; keys are unique" if entry.key in seen else None)
        faults += [f"sample {entry.key!r} {reason}" for reason in reasons if reason]
        seen.add(entry.key)
        if 0 <= entry.shard < len(shards):
            counts[entry.shard] += 1
        else:
            faults.append(f"sample {entry.key!r} is in shard number {entry.shard}, there are {len(shards)}")
    if any(first.shard > second.shard for first, second in pairwise(entries)):
        faults.append("the samples are not in the order of the shards")
    for shard, count in zip(shards, counts, strict=True):
        if count != shard.count:
            faults.append(f"shard {shard.name} has {count} samples here, its own count says {shard.count}")
    return faults
