"""Indexes whose samples are columns in a mapped file are as little trusted as the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from datamodules.prepare.verify import verify
from datamodules.shards import index as index_module
from datamodules.shards.checks import load_index
from datamodules.shards.index import Index
from tests.support.index_columns import columns_of, named_rightly, set_columns, value
from tests.support.shard_samples import small_shards


@pytest.fixture(autouse=True)
def columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every index has columns, however few its samples are."""
    monkeypatch.setattr(index_module, "COLUMNS_FROM", 0)


def without_last(rows: dict[str, list[Any]]) -> None:
    for column in rows.values():
        column.pop()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (value("key", 1, "../s"), r"sample '\.\./s' leaves its folder"),
        (value("key", 1, "a.b"), "sample 'a.b' has a dot"),
        (value("key", 1, "s\n"), "has an empty part, a backslash or a control character"),
        (value("key", 1, "s000"), "sample 's000' appears twice"),
        (value("shard", 6, 9), "is in shard number 0 or 9, there are 2"),
        (value("shard", 0, -1), "is in shard number -1 or 1, there are 2"),
        (value("shard", 1, 1), "not in the order of the shards.*has 4 samples here, its own count says 5"),
        (value("suffixes", 1, "json,pkl"), r"member \.pkl is refused"),
        (value("suffixes", 1, "json,json"), "members json,json have one suffix twice"),
        (value("suffixes", 1, "json"), "sample 's001' has not a place and a checksum for each member"),
        (value("spans", 1, [0, 5, 7]), "sample 's001' has not a place and a checksum for each member"),
        (value("checksums", 1, b"x"), "sample 's001' has not a place and a checksum for each member"),
        (value("spans", 1, [-512, 5, 0, 5]), r"sample 's001': \.json is \[-512, 5, ''\]"),
        (value("spans", 1, [0, 5, 0, 1 << 40]), r"sample 's001': \.mp4 ends at byte 1099511627776, its shard has \d+"),
        (value("spans", 1, [0, None, 0, 5]), "spans: some rows have no value"),
        (value("spans", 1, [0, 5, (1 << 63) - 1, 5]), r"sample 's001': \.mp4 ends at byte 9223372036854775812"),
        (without_last, "it has 6 samples, the index says 7"),
    ],
)
def test_columns_from_elsewhere_are_not_trusted(
    tmp_path: Path, change: Callable[[dict[str, list[Any]]], None], message: str
) -> None:
    small_shards(tmp_path, 7)
    path = tmp_path / "train.index.json"
    set_columns(path, change)
    with pytest.raises(ValueError, match=message) as failed:
        load_index(path, "vidpref/vista")
    assert "\n" not in str(failed.value)
    assert f"{columns_of(path)}: is damaged (" in str(failed.value)
    assert verify(path) == [str(failed.value)]


def cut(path: Path, file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def altered(path: Path, file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def no_arrow(path: Path, file: Path) -> None:
    file.write_bytes(b"PAR1" * 40)
    named_rightly(path, file)


def empty(path: Path, file: Path) -> None:
    file.write_bytes(b"")
    named_rightly(path, file)


def of_another(path: Path, file: Path) -> None:
    small_shards(path.parent / "other", 8)
    file.write_bytes(columns_of(path.parent / "other" / "train.index.json").read_bytes())
    named_rightly(path, file)


def other_columns(path: Path, file: Path) -> None:
    layout = pa.schema([pa.field("key", pa.string())])
    set_columns(path, lambda rows: None, layout)


def no_values(path: Path, file: Path) -> None:
    set_columns(path, value("checksums", 2, None))


def offsets_beyond(path: Path, file: Path) -> None:
    """Offsets of texts that lead out of their buffer: a reader in C would follow them."""
    table = pa.ipc.open_file(pa.py_buffer(file.read_bytes())).read_all()
    keys = table.column("key").chunk(0)
    offsets = pa.py_buffer(b"".join(number.to_bytes(4, "little") for number in (0, 4, 1 << 30, 12, 16, 20, 24, 28)))
    bad = pa.Array.from_buffers(pa.string(), 7, [None, offsets, keys.buffers()[2]])
    with pa.ipc.new_file(str(file), table.schema) as writer:
        writer.write_table(table.set_column(0, table.schema.field(0), bad))
    named_rightly(path, file)


def header(**fields: Any) -> Callable[[Path, Path], None]:
    return lambda path, file: path.write_text(json.dumps({**json.loads(path.read_text()), **fields})) and None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path, file: file.unlink(), "no such file; it belongs to .*: copy it beside it"),
        (cut, r"is damaged \(has \d+ bytes, the index says \d+\)"),
        (altered, "is damaged .bytes were altered, checksums differ"),
        (no_arrow, "is damaged"),
        (empty, "is damaged"),
        (of_another, "is damaged .it is of another index"),
        (other_columns, "is damaged .its columns are not those of vidpref/vista"),
        (no_values, "is damaged .checksums: some rows have no value"),
        (offsets_beyond, "is damaged"),
        (
            header(columns={"name": "../x.arrow", "bytes": 1, "checksum": ""}),
            r"'\.\./x\.arrow' is not a plain file name",
        ),
        (header(columns=None), "is damaged .columns is None, not name, bytes and checksum of a file"),
        (header(samples=-1), "is damaged .samples is -1, not a whole number from 0 on"),
        (header(fingerprint=5), "is damaged .fingerprint is 5, not a text"),
        (header(fingerprint="0" * 64), "is damaged .it is of another index"),
        (header(format=3), "index format 3, this release reads 1 and 2"),
        (header(format=[1]), r"index format \[1\], this release reads 1 and 2"),
        (header(shards={}), "shards is not a list"),
        (header(made_from=[1]), r"made_from is \[1\], not an object"),
    ],
)
def test_a_damaged_file_is_refused_in_a_line(
    tmp_path: Path, damage: Callable[[Path, Path], None], message: str
) -> None:
    small_shards(tmp_path, 7)
    path = tmp_path / "train.index.json"
    damage(path, columns_of(path))
    with pytest.raises(ValueError, match=message) as failed:
        Index.read(path)
    assert "\n" not in str(failed.value)
    assert str(path.with_suffix("").with_suffix("")) in str(failed.value)


def test_facts_are_checked_when_they_are_read(tmp_path: Path) -> None:
    small_shards(tmp_path, 7)
    path = tmp_path / "train.index.json"
    set_columns(path, value("facts.frames", 3, -1))
    index = Index.read(path)
    assert index.entries[2].key == "s002"
    reads: list[Callable[[], Any]] = [lambda: index.entries[3], lambda: list(index.entries)]
    for read in reads:
        with pytest.raises(ValueError, match="sample 's003': frames is -1, not a whole number"):
            read()
    assert verify(path) == [
        f"{columns_of(path)}: is damaged (sample 's003': frames is -1, not a whole number from 1 on); make it again "
        "with `vidpref prepare index`"
    ]
    for facts in ("[1]", "{", "[" * 100_000, '{"boxes": 5}'):
        set_columns(path, value("facts", 3, facts))
        with pytest.raises(ValueError, match="sample 's003': "):
            Index.read(path).entries[3]


def test_verify_computes_the_fingerprint(tmp_path: Path) -> None:
    small_shards(tmp_path, 7)
    path = tmp_path / "train.index.json"
    set_columns(path, value("facts.frames", 3, 9))
    assert verify(path, decode=False) == [
        f"{path}: its fingerprint is not that of its samples; make it again with `vidpref prepare index`"
    ]
