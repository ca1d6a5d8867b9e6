"""Checked rows to shards: the good ones are written, the bad ones stop the run or are listed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from datamodules.prepare.kept_results import KeptResults
from datamodules.prepare.parts import Part
from datamodules.prepare.progress import with_progress
from datamodules.prepare.rows import SourceRow
from datamodules.schemas import FACTS
from datamodules.shards.commit import commit, undo_joint
from datamodules.shards.files import write_whole
from datamodules.shards.index import Index
from datamodules.shards.joined_index import joined
from datamodules.shards.output_lock import OutputLock
from datamodules.shards.writer import TarWriter

ItemT = TypeVar("ItemT")


class Record(Protocol):
    """Row of any kind that is stored as ``key.json``."""

    @property
    def key(self) -> str:
        """The sample's name."""

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON types."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A row without faults, a function that gives its members but ``json``, by suffix, and its data set of several."""

    row: Record
    members: Callable[[], dict[str, bytes]]
    bucket: str = ""


def output_prefix(output: str | Path, rows: Path) -> Path:
    """Folder and common name of the shards: OUTPUT, or in it, where it is a folder or ends with a slash, as `rows`."""
    return Path(output) / rows.stem if str(output).endswith("/") or Path(output).is_dir() else Path(output)


@dataclass(frozen=True, slots=True)
class ShardOutput:
    """Shards that a preparation writes.

    Attributes:
        prefix: folder and common name of the shards; of a part, its own.
        skip_bad: write what the good rows give, and list the bad ones.
        samples_per_shard: samples in one tar file.
        part: which rows these are of all, where they are not all. It may give no sample.
    """

    prefix: Path
    skip_bad: bool
    samples_per_shard: int
    part: Part | None = None

    @classmethod
    def named(cls, options: Mapping[str, Any], source: Path, rows: Sequence[SourceRow]) -> ShardOutput:
        """The output that a command's options say, `output`, `part`, `skip_bad` and `samples_per_shard` among them.

        Args:
            options: all arguments of the command.
            source: what shards in a folder are named as.
            rows: all rows of the source.

        Raises:
            ValueError: `part` names no part.
        """
        prefix, part = output_prefix(options["output"], source), Part.named(options["part"], rows, options)
        prefix = prefix if part is None else part.prefix(prefix)
        return cls(prefix, options["skip_bad"], options["samples_per_shard"], part)

    @property
    def skipped(self) -> Path:
        """The list of bad rows, where there are some."""
        return self.prefix.with_name(f"{self.prefix.name}.skipped.jsonl")

    def share(self, items: Sequence[ItemT]) -> list[ItemT]:
        """What is prepared of all rows, or of what there is for each row."""
        return list(items if self.part is None else self.part.of(items))


def write_samples(
    rows: Sequence[SourceRow],
    source: Path,
    samples_of: Callable[[SourceRow], Iterable[Sample]],
    output: ShardOutput,
    schema: str = "vidpref/vista",
    buckets: Sequence[str] = (),
    before_commit: Callable[[], None] = lambda: None,
    max_listed: int | None = None,
) -> Index:
    """Write what the good rows give to shards; bad rows that may be skipped are listed in ``PREFIX.skipped.jsonl``.

    What `KeptResults` has of these shards is removed when they are written.

    Args:
        rows: all rows, or those of the part, with the faults found so far.
        source: the file or folder that they are from, for messages.
        samples_of: the samples of one row, any number; what it finds wrong it adds to the row's faults.
        output: where to, and what becomes of bad rows.
        schema: what the members mean.
        buckets: names of data sets of their own, ``PREFIX-BUCKET``, that the samples are shared among; none = one.
        before_commit: writes what belongs beside the shards, when all samples are accepted.
        max_listed: faults that the message lists, the others are counted; None = all.

    Returns:
        The index, or the indexes joined.

    Raises:
        ValueError: lists every fault of every row, and nothing is written; or no row gives a sample.
    """
    prefix, part = output.prefix, output.part
    with ExitStack() as stack:
        stack.enter_context(OutputLock(prefix))
        prefixes, kept = _prefixes(prefix, buckets), KeptResults.of(prefix)
        if any(Path(f"{path}.index.json").exists() for path in prefixes.values()):
            kept.remove()  # a run that was killed behind its commit left them
        writers = {
            bucket: stack.enter_context(TarWriter(path, schema, FACTS[schema], output.samples_per_shard))
            for bucket, path in prefixes.items()
        }
        for bucket, key, members in _good_samples(source, rows, samples_of, output, max_listed):
            writers[bucket].write(key, members)
        # Accepted, but still under partial names: what follows may fail, and then nothing is left behind.
        closed = {bucket: writer.close() for bucket, writer in writers.items() if not writer.empty}
        indexes = {prefixes[bucket]: index for bucket, index in closed.items()}
        bad = _write_skipped(output.skipped, rows)
        before_commit()
        if part is not None:
            part.write_record(prefix, closed, output.samples_per_shard)
        commit(indexes, prefix if buckets and indexes else None)
        kept.remove()
    _print_outputs({path: indexes.get(path) for path in prefixes.values()}, bad, output.skipped)
    return joined(list(indexes.values())) if indexes else Index(schema, (), ())


def _prefixes(prefix: Path, buckets: Sequence[str]) -> dict[str, Path]:
    """Folder and common name of each data set, after what a killed run left half committed was taken back."""
    prefixes = {bucket: prefix.with_name(f"{prefix.name}-{bucket}") for bucket in buckets}
    if prefixes:
        undo_joint(prefix, prefixes.values())  # before a writer sees it
    return prefixes or {"": prefix}


def _write_skipped(path: Path, rows: Sequence[SourceRow]) -> int:
    """Write the list of bad rows, where there are some; how many there are."""
    bad = [row for row in rows if row.faults]
    if bad:
        write_whole(path, "".join(json.dumps(row.record()) + "\n" for row in bad).encode())
    return len(bad)


def _print_outputs(indexes: Mapping[Path, Index | None], bad: int, skipped: Path) -> None:
    """A line for each data set; the first one says how many bad rows there are, which are of all of them."""
    listed = f", {bad} bad rows are listed in {skipped}" if bad else ""
    for output, index in indexes.items():
        size = f"{len(index)} samples in {len(index.shards)} shards" if index else "no sample, so there is no"
        print(f"{size}: {output}.index.json{listed}")
        listed = ""


def _good_samples(
    path: Path,
    rows: Sequence[SourceRow],
    samples_of: Callable[[SourceRow], Iterable[Sample]],
    output: ShardOutput,
    max_listed: int | None,
) -> Iterator[tuple[str, str, dict[str, bytes]]]:
    """Bucket, key and members of the good rows, in order; raises at the end if there were bad ones not to be skipped.

    So every row is checked and one run tells all faults; after the first one nothing is encoded any more.
    """
    skip_bad, may_be_empty = output.skip_bad, output.part is not None
    selected, given = skip_bad or not any(row.faults for row in rows), False
    for row in with_progress(rows, f"preparing {path.name}"):
        for sample in samples_of(row):
            selected = selected and (skip_bad or not row.faults)
            if selected and not row.faults:
                record = json.dumps(sample.row.to_json()).encode()
                yield sample.bucket, sample.row.key, {"json": record, **sample.members()}
                given = True
        # Once more: a row may be refused after its last sample, or give none.
        selected = selected and (skip_bad or not row.faults)
    bad = [row for row in rows if row.faults]
    if bad and ((len(bad) == len(rows) and not may_be_empty) or not skip_bad):
        raise ValueError(_report(path, bad, len(rows), output.skipped, max_listed))
    if not given and not may_be_empty:
        raise ValueError(f"{path}: none of its {len(rows)} rows gives a sample, nothing was written")


def _report(path: Path, bad: Sequence[SourceRow], total: int, skipped: Path, max_listed: int | None) -> str:
    lines = [f"{path}: {len(bad)} of {total} rows are bad, nothing was written:"]
    faults = [f"  {row}, {fault}" for row in bad for fault in row.faults]
    lines += faults[:max_listed]
    if max_listed is not None and len(faults) > max_listed:
        lines.append(f"  and {len(faults) - max_listed} more")
    # By field: a hundred faults are often one mistake of the script that wrote the rows.
    counts = Counter(fault.field for row in bad for fault in row.faults)
    lines.append("  faults by field: " + ", ".join(f"{name} {number}" for name, number in sorted(counts.items())))
    if len(bad) < total:
        lines.append(
            f"Fix them, or add --skip-bad to write the other {total - len(bad)} and list these in {skipped.name}"
        )
    return "\n".join(lines)
