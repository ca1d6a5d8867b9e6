"""Files in which predicted samples wait until all are there: each process appends to files of its own.

No process goes on with another one's files, not even with those of its own former start: a rank that outlives its run
on another machine harms nothing, and a killed run leaves a few files more.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from datamodules.schemas import FACTS
from datamodules.shards.files import sync_folder
from datamodules.shards.index import Index, Member, SampleEntry, ShardEntry, digest, key_fault, suffix_fault
from datamodules.stream.predict_outputs import WrittenSample

_LINES = re.compile(r"[0-9a-f]{32}\.jsonl")
#: The index of a sample's own shard, as earlier releases wrote them.
_FORMER_INDEX = re.compile(r"[0-9a-f]{32}\.index\.json")
#: All files of parts, those of earlier releases too, whole or not.
PART_FILE = re.compile(r"[0-9a-f]{32}(\.jsonl|\.tar|(-\d{6}\.tar|\.index\.json)(\.tmp)?)")


class PartLines:
    """File of one process with a line of JSON a sample; made with the first one.

    Args:
        folder: of all parts.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"{uuid.uuid4().hex}.jsonl"
        self._file: IO[bytes] | None = None

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a line, which is on disk when this returns."""
        if self._file is None:
            self._file = self.path.open("xb")
            sync_folder(self.path.parent)
        self._file.write(json.dumps(record).encode() + b"\n")
        _sync(self._file)

    def close(self) -> None:
        """Close the file; nothing happens where there is none."""
        _close(self._file)


class PartShard:
    """Tar of one process's samples, with a line for each in a file beside it; made with the first sample.

    The line is written last: without it there is no sample, whatever the tar holds behind the last one.

    Args:
        folder: of all parts.
        schema: what the members mean, one of `SCHEMA_VERSIONS`.
    """

    def __init__(self, folder: Path, schema: str) -> None:
        self.schema = schema
        self._lines = PartLines(folder)
        self._tar: IO[bytes] | None = None

    def append(self, sample: WrittenSample) -> None:
        """Add a sample, which is on disk when this returns.

        Raises:
            ValueError: a refused key or member, or a sample that is none of its schema.
        """
        _require_sound(sample, self.schema)
        if self._tar is None:
            self._tar = self._lines.path.with_suffix(".tar").open("xb")
        members = {suffix: _add(self._tar, f"{sample.key}.{suffix}", data) for suffix, data in sample.members.items()}
        _sync(self._tar)
        facts = {} if sample.facts is None else {"facts": dict(sample.facts)}
        self._lines.append({"key": sample.key, "members": members, **facts})

    def close(self) -> None:
        """Close the files; nothing happens where there are none."""
        _close(self._tar)
        self._lines.close()


@dataclass(frozen=True, slots=True)
class PartSamples:
    """Whole samples of all processes.

    Attributes:
        index: where each is; its shards have no hash.
        facts: of those that were written with facts of their own.
    """

    index: Index
    facts: dict[str, dict[str, Any]]


def read_samples(folder: Path, schema: str) -> PartSamples:
    """The whole samples in a folder of parts; of one that two processes made, the first.

    Args:
        folder: of all parts.
        schema: theirs.
    """
    shards: list[ShardEntry] = []
    entries: dict[str, SampleEntry] = {}
    facts: dict[str, dict[str, Any]] = {}
    for path in _files(folder, _LINES):
        tar = path.with_suffix(".tar")
        size = tar.stat().st_size if tar.exists() else 0
        count = len(entries)
        for line in whole_lines(path):
            members = {suffix: Member(*member) for suffix, member in line["members"].items()}
            if any(member.offset + member.size > size for member in members.values()):
                break  # a power cut, or a copy without its end
            if line["key"] not in entries:
                entries[line["key"]] = SampleEntry(line["key"], len(shards), members)
                facts |= {line["key"]: line["facts"]} if "facts" in line else {}
        shards.append(ShardEntry(str(tar), size, "", len(entries) - count))
    for path in _files(folder, _FORMER_INDEX):
        index = Index.read(path, schema)
        key = index.entries[0].key
        if key not in entries:
            entries[key] = SampleEntry(key, len(shards), index.entries[0].members)
            # Those of side shards are in no member.
            facts |= {key: index.entries[0].facts} if index.entries[0].facts and schema == "vidpref/side" else {}
        shards.append(index.shards[0])
    return PartSamples(Index(schema, tuple(shards), tuple(entries.values())), facts)


def read_rows(folder: Path) -> dict[str, dict[str, Any]]:
    """Key -> line, of all processes' lines in a folder of parts; of a key that two wrote, the first."""
    rows: dict[str, dict[str, Any]] = {}
    for path in _files(folder, _LINES):
        for line in whole_lines(path):
            rows.setdefault(line["key"], line)
    return rows


def whole_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines up to one that a kill or a power cut has left half-written; the samples behind it are made again."""
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            record = json.loads(line)
        except ValueError:
            return
        yield record


def _files(folder: Path, form: re.Pattern[str]) -> list[Path]:
    return sorted(path for path in folder.iterdir() if form.fullmatch(path.name))


def _require_sound(sample: WrittenSample, schema: str) -> None:
    """Refuse a sample that could not be joined: at once, and not when all others are made."""
    faults = [why for why in (key_fault(sample.key), *map(suffix_fault, sample.members)) if why]
    if not faults and sample.facts is None:
        try:
            record = json.loads(sample.members["json"]) if "json" in sample.members else None
            FACTS[schema](sample.key, record, sample.members.keys())
        except (ValueError, RecursionError) as error:
            faults.append(str(error))
    if faults:
        raise ValueError(f"sample {sample.key!r}: {'; '.join(faults)}")


def _add(tar: IO[bytes], name: str, content: bytes) -> Member:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.write(info.tobuf())
    offset = tar.tell()
    tar.write(content + bytes(-len(content) % tarfile.BLOCKSIZE))
    return Member(offset, len(content), digest(content))


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _close(file: IO[bytes] | None) -> None:
    if file is not None:
        with suppress(OSError):  # of a full disk, once more: what is whole is on disk
            file.close()
