"""Parts of a preparation to one data set: the same files as one run writes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.prepare.parts import record_path, require_all_parts
from datamodules.prepare.progress import with_progress
from datamodules.schemas import FACTS
from datamodules.shards.commit import commit, undo_joint
from datamodules.shards.files import write_whole
from datamodules.shards.index import Index
from datamodules.shards.joined_index import joined
from datamodules.shards.output_lock import locks_output
from datamodules.shards.sample_reader import SampleReader
from datamodules.shards.writer import TarWriter

#: What a part may have beside its shards, and the lines of its head, which all parts share.
_LISTS = {"skipped.jsonl": 0, "report.jsonl": 0, "labels.csv": 1}


@dataclass(frozen=True, slots=True)
class _Finished:
    """Finished part.

    Attributes:
        prefix: folder and common name of its shards.
        settings: see `Part`.
        indexes: of its data sets, by the names of the buckets.
        samples_per_shard: what the joined shards are to have.
    """

    prefix: Path
    settings: str
    indexes: dict[str, Index]
    samples_per_shard: int


@locks_output("output")
def prepare_join(output: str | Path) -> Index:
    """Join the parts that `prepare ... --part 1/N` to `--part N/N` wrote; the parts stay.

    The samples are packed again, each checked against its checksum, so that the shards are those of one run.

    Args:
        output: folder and common name that the parts were prepared to.

    Returns:
        The index; of several sizes all of them joined.

    Raises:
        ValueError: a part is missing, is not finished or of other options; two samples have one key; shards exist.
    """
    output = Path(output)
    parts = _finished_parts(output)
    buckets = list(dict.fromkeys(bucket for part in parts for bucket in part.indexes))
    if not buckets:
        raise ValueError(f"{output}: none of its {len(parts)} parts has a sample, there is nothing to join")
    outputs = {bucket: _named(output, bucket) for bucket in buckets}
    undo_joint(output, outputs.values())
    with ExitStack() as stack:
        indexes, pairs = {}, dict[tuple[str, str], str]()
        for bucket, prefix in outputs.items():
            found = [part.indexes[bucket] for part in parts if bucket in part.indexes]
            source = joined(found)  # refuses doubles before a byte is copied
            limit = parts[0].samples_per_shard
            writer = stack.enter_context(TarWriter(prefix, source.schema, FACTS[source.schema], limit))
            reader = SampleReader(source)
            for position in with_progress(range(len(source)), f"joining {prefix.name}"):
                key, members = source.entries[position].key, reader.read(position)
                if source.schema == "vidpref/video_pairs":
                    _require_new(key, members["json"], pairs)
                writer.write(key, members)
            indexes[prefix] = writer.close()
        for name, head in _LISTS.items():
            if lines := list(_lines([Path(f"{part.prefix}.{name}") for part in parts], head)):
                write_whole(f"{output}.{name}", b"".join(lines))
        commit(indexes, output if "" not in outputs else None)
    for prefix, index in indexes.items():
        print(f"{len(index)} samples in {len(index.shards)} shards, of {len(parts)} parts: {prefix}.index.json")
    return joined(list(indexes.values()))


def _require_new(key: str, row: bytes, pairs: dict[tuple[str, str], str]) -> None:
    """Refuse a pair of videos that another part has, too: each part saw its own rows alone."""
    record = json.loads(row)
    before = pairs.setdefault((record["video_id"], record["caption"]), key)
    if before != key:
        raise ValueError(f"{key} repeats {before}: the same videos and prompt; leave one of the rows out")


def _named(prefix: Path, bucket: str) -> Path:
    return prefix.with_name(f"{prefix.name}-{bucket}") if bucket else prefix


def _finished_parts(output: Path) -> list[_Finished]:
    """All parts, in order.

    Raises:
        ValueError: lists what is wrong with them.
    """
    form = re.compile(rf"{re.escape(output.name)}\.part([1-9]\d*)of([1-9]\d*)\.json", re.ASCII)
    paths = output.parent.iterdir() if output.parent.is_dir() else ()
    numbers = [(int(match[1]), int(match[2])) for path in paths if (match := form.fullmatch(path.name))]
    count = require_all_parts(numbers, output, "prepare")
    parts, faults = [], []
    for number in range(1, count + 1):
        try:
            parts.append(_read_part(output.with_name(f"{output.name}.part{number}of{count}")))
        except ValueError as error:
            faults.append(str(error))
    faults += [
        f"{part.prefix}: is of other rows or options than {parts[0].prefix.name}; prepare both with the same ones"
        for part in parts
        if (part.settings, part.samples_per_shard) != (parts[0].settings, parts[0].samples_per_shard)
    ]
    if faults:
        raise ValueError("\n".join(faults))
    return parts


def _read_part(prefix: Path) -> _Finished:
    """A part by its record.

    Raises:
        ValueError: its record is damaged, or an index is missing or another one, as of a run that was killed.
    """
    path = record_path(prefix)
    try:
        record: Any = json.loads(path.read_bytes())
        settings, marks, limit = record["settings"], dict(record["indexes"]), int(record["samples_per_shard"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: is no record of a part ({error}); delete it, and prepare the part again") from error
    indexes = {}
    for bucket, fingerprint in marks.items():
        address = f"{_named(prefix, bucket)}.index.json"
        if not Path(address).exists() or (index := Index.read(address)).fingerprint != fingerprint:
            raise ValueError(f"{address}: is not what the part's record names; it was stopped, run it again")
        indexes[bucket] = index
    return _Finished(prefix, settings, indexes, limit)


def _lines(paths: Sequence[Path], head: int) -> Iterator[bytes]:
    """The lines of several files, one after the other, the first file's head alone; absent files have none."""
    present = [path for path in paths if path.exists()]
    for number, path in enumerate(present):
        yield from path.read_bytes().splitlines(keepends=True)[head if number else 0 :]
