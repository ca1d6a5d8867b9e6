"""The samples of an index as columns in an Arrow file, which all processes of a machine map and none copies.

``NAME.index.json`` is written after it, and names it with its bytes and checksum, see `column_files`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from datamodules.shards.byte_reader import ByteReader, is_remote
from datamodules.shards.column_checks import CHECKSUM, column_faults
from datamodules.shards.entry_sequences import LazyEntries
from datamodules.shards.files import replaced_file
from datamodules.shards.index import Member, SampleEntry, ShardEntry
from datamodules.shards.index_fields import facts_fault, required_facts, shortened
from datamodules.user_files import user_file

#: Samples that are packed, read and checked together.
_BATCH = 65536
#: Facts with a column of their own, where a schema asks for them: their exact type in Python, and in Arrow.
_TYPED: Mapping[str, tuple[type, pa.DataType]] = {
    "video_id": (str, pa.string()),
    "frames": (int, pa.int64()),
    "fps": (float, pa.float64()),
    "width": (int, pa.int64()),
    "height": (int, pa.int64()),
    "frames_per_segment": (int, pa.int64()),
}
_FACT = "facts."
_FILE_NAME = re.compile(r"[^/\\:]+\.arrow")


def write_columns(path: Path, schema: str, entries: Iterable[SampleEntry], fingerprint: str) -> dict[str, Any]:
    """Write the column file, whole or not at all; what the index says of it.

    Args:
        path: see `column_files.column_file`.
        schema: what the members mean.
        entries: the samples, which are gone through once.
        fingerprint: the index's.

    Raises:
        ValueError: a checksum that is none of `digest`.
    """
    layout = _layout(schema)
    with replaced_file(path) as file:
        with pa.ipc.new_file(file, layout.with_metadata({b"fingerprint": fingerprint.encode()})) as writer:
            rows = (_packed(entry, schema) for entry in entries)
            while batch := list(islice(rows, _BATCH)):
                columns = list(zip(*batch, strict=True))
                writer.write_batch(pa.record_batch([*map(pa.array, columns, layout.types)], schema=layout))
        size = file.tell()
    with path.open("rb") as written:
        checksum = hashlib.file_digest(written, _hasher).hexdigest()
    return {"name": path.name, "bytes": size, "checksum": checksum}


class ColumnEntries(LazyEntries):
    """Samples in a mapped column file; pickled as the file's path, so that processes share its pages.

    Args:
        table: the columns.
        schema: what the members mean.
        address: of the file.
        source: its path, or its content where it came from a server.
    """

    def __init__(self, table: pa.Table, schema: str, address: str, source: str | bytes) -> None:
        self._table = table
        self._schema = schema
        self._address = address
        self._source = source
        #: Whether all facts were checked; a sample that is read alone is checked by itself until then.
        self._checked = False

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[SampleEntry]:
        for batch in self._table.to_batches(4096):
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield self._entry(row)
        self._checked = True

    def __reduce__(self) -> tuple[Any, ...]:
        fingerprint = self._table.schema.metadata[b"fingerprint"]
        return _reopened, (self._address, self._source, self._schema, fingerprint, self._checked)

    def entry(self, position: int) -> SampleEntry:
        """The sample.

        Raises:
            ValueError: a fact is of a wrong type or range.
        """
        return self._entry([column[position].as_py() for column in self._table.columns])

    def keys(self) -> list[str]:
        """From their column."""
        keys: list[str] = self._table.column("key").to_pylist()
        return keys

    def facts(self, name: str) -> list[Any]:
        """From their column, where they have one and all samples are in it."""
        if name in _typed_facts(self._schema) and not (column := self._table.column(_FACT + name)).null_count:
            values: list[Any] = column.to_pylist()
            return values
        return [entry.facts.get(name) for entry in self]

    def checksums(self, suffix: str) -> list[str | None]:
        """From their column."""
        names = [text.split(",") for text in self._table.column("suffixes").to_pylist()]
        texts = self._table.column("checksums").to_pylist()
        return [
            _checksum(text, own.index(suffix)) if suffix in own else None
            for own, text in zip(names, texts, strict=True)
        ]

    def _entry(self, row: Sequence[Any]) -> SampleEntry:
        key, shard, suffixes, spans, checksums, rest, *typed = row
        names = suffixes.split(",") if suffixes else []
        members = {
            suffix: Member(spans[2 * place], spans[2 * place + 1], _checksum(checksums, place))
            for place, suffix in enumerate(names)
        }
        pairs = zip(_typed_facts(self._schema), typed, strict=True)
        facts = {name: value for name, value in pairs if value is not None}
        try:
            facts |= json.loads(rest)
            why = None if self._checked else facts_fault(facts, self._schema)
        except (ValueError, TypeError, RecursionError) as error:
            why = f"facts cannot be parsed: {error}"
        if why:
            raise ValueError(
                f"{self._address}: is damaged (sample {key!r}: {why}); make it again with `vidpref prepare index`"
            )
        return SampleEntry(key, shard, members, facts)


def open_columns(
    index: str, header: Mapping[str, Any], shards: Sequence[ShardEntry], reader: ByteReader
) -> ColumnEntries:
    """The samples of an index, whose columns are checked; of facts types and ranges are checked when they are read.

    Args:
        index: the address of ``NAME.index.json``.
        header: its content, itself checked.
        shards: the shards that it names.
        reader: fetches the bytes of a remote file.

    Raises:
        ValueError: the column file is missing, damaged or another index's, or samples are where they cannot be.
    """
    columns = header["columns"]
    name = columns["name"]
    if not _FILE_NAME.fullmatch(name):
        raise ValueError(f"{index}: column file {shortened(name)} is not a plain file name")
    address = index.rpartition("/")[0] + "/" + name if "/" in index else name
    try:
        source: str | bytes = reader.read_all(address) if is_remote(address) else str(user_file(address).absolute())
        content = _content(source)
    except FileNotFoundError as error:
        raise ValueError(
            f"{address}: no such file; it belongs to {index}: copy it beside it, or make the index again with "
            "`vidpref prepare index`"
        ) from error
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{address}: cannot be read: {error}") from error
    try:
        if content.size != columns["bytes"]:
            raise ValueError(f"has {content.size} bytes, the index says {columns['bytes']}")
        hasher = _hasher()
        hasher.update(content)
        if hasher.hexdigest() != columns["checksum"]:
            raise ValueError("bytes were altered, checksums differ")
        table = _table(content, header["schema"], header["fingerprint"].encode())
        # All offsets lie within their buffers; a reader in C would follow any other one, too.
        table.validate(full=True)
        if faults := list(column_faults(table, header["samples"], shards)):
            more = f"; and {len(faults) - 10} more" if len(faults) > 10 else ""
            raise ValueError("; ".join(faults[:10]) + more)
    except (ValueError, OSError, pa.ArrowException) as error:
        line = " ".join(str(error).split())
        raise ValueError(f"{address}: is damaged ({line}); make it again with `vidpref prepare index`") from error
    return ColumnEntries(table, header["schema"], address, source)


def _reopened(address: str, source: str | bytes, schema: str, fingerprint: bytes, checked: bool) -> ColumnEntries:
    """The samples in another process; the first one has checked the file, which has the fingerprint in its name."""
    try:
        entries = ColumnEntries(_table(_content(source), schema, fingerprint), schema, address, source)
    except (ValueError, OSError, pa.ArrowException) as error:
        raise ValueError(f"{address}: was changed while a run reads it ({error}); start the run again") from error
    entries._checked = checked
    return entries


def _content(source: str | bytes) -> pa.Buffer:
    if isinstance(source, bytes):
        return pa.py_buffer(source)
    if not Path(source).stat().st_size:
        return pa.py_buffer(b"")  # which cannot be mapped
    return pa.memory_map(source).read_buffer()


def _table(content: pa.Buffer, schema: str, fingerprint: bytes) -> pa.Table:
    """The columns, none of them copied.

    Raises:
        ValueError: they are not columns of this index.
    """
    table = pa.ipc.open_file(pa.BufferReader(content)).read_all()
    if not table.schema.equals(_layout(schema)):
        raise ValueError(f"its columns are not those of {schema}")
    if (table.schema.metadata or {}).get(b"fingerprint") != fingerprint:
        raise ValueError("it is of another index")
    return table


def _layout(schema: str) -> pa.Schema:
    typed = [pa.field(_FACT + name, _TYPED[name][1]) for name in _typed_facts(schema)]
    return pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("shard", pa.int32(), nullable=False),
            # Separated by commas, which no suffix has.
            pa.field("suffixes", pa.string(), nullable=False),
            # Offset and size of each member, in the order of the suffixes.
            pa.field("spans", pa.list_(pa.field("item", pa.int64(), nullable=False)), nullable=False),
            # 16 bytes for each member.
            pa.field("checksums", pa.binary(), nullable=False),
            # The facts without a column of their own, and values that their column's type would change, as JSON.
            pa.field("facts", pa.string(), nullable=False),
            *typed,
        ]
    )


def _typed_facts(schema: str) -> list[str]:
    return [name for name in required_facts(schema) if name in _TYPED]


def _packed(entry: SampleEntry, schema: str) -> tuple[Any, ...]:
    """A sample's row; read again, each value has the type that it had, as the fingerprint tells 8 from 8.0."""
    members, checksums = entry.members.values(), b""
    for member in members:
        if not re.fullmatch(rf"[0-9a-f]{{{2 * CHECKSUM}}}", member.checksum):
            raise ValueError(f"sample {entry.key!r}: checksum {member.checksum!r} is not {2 * CHECKSUM} hex digits")
        checksums += bytes.fromhex(member.checksum)
    rest, typed = dict(entry.facts), []
    for name in _typed_facts(schema):
        value = rest.get(name)
        fits = type(value) is _TYPED[name][0]
        if fits and isinstance(value, int):
            fits = abs(value) < 1 << 63
        elif fits and isinstance(value, str):
            fits = value.isascii() or value.isprintable()  # half a surrogate pair is no UTF-8
        typed.append(rest.pop(name) if fits else None)
    return (
        entry.key,
        entry.shard,
        ",".join(entry.members),
        [number for member in members for number in (member.offset, member.size)],
        checksums,
        json.dumps(rest, separators=(",", ":")),
        *typed,
    )


def _checksum(content: bytes, place: int) -> str:
    return content[CHECKSUM * place : CHECKSUM * (place + 1)].hex()


def _hasher() -> Any:
    return hashlib.blake2b(digest_size=CHECKSUM)
