"""Indexes whose samples are columns in a mapped file: the same as the others, and as little trusted."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from datamodules.prepare.verify import verify
from datamodules.shards import index as index_module
from datamodules.shards.checks import load_index
from datamodules.shards.column_files import column_files
from datamodules.shards.index import Index, SampleEntry, ShardEntry
from datamodules.shards.joined_index import joined
from datamodules.shards.sample_reader import SampleReader
from datamodules.vista.partners import video_numbers
from tests.support.kills import contents, killed
from tests.support.shard_samples import small_shards


@pytest.fixture(autouse=True)
def columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every index has columns, however few its samples are."""
    monkeypatch.setattr(index_module, "COLUMNS_FROM", 0)


def without_columns(index: Index, path: Path) -> Index:
    """The same index, written and read as JSON."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "COLUMNS_FROM", 1 << 30)
        index.write(path)
    return Index.read(path)


def columns_of(path: Path) -> Path:
    (file,) = column_files(path)
    return file


def test_both_formats_say_the_same(tmp_path: Path) -> None:
    made = small_shards(tmp_path)
    path = tmp_path / "train.index.json"
    stored, plain = Index.read(path), without_columns(made, tmp_path / "plain.index.json")
    assert (json.loads(path.read_text())["samples"], columns_of(path).suffix) == (23, ".arrow")
    assert stored.fingerprint == replace(stored).fingerprint == plain.fingerprint == made.fingerprint
    assert stored.entries == plain.entries
    assert (stored.keys, stored.positions) == (plain.keys, plain.positions)
    assert stored.entries[-1].key == "s022"
    assert [entry.key for entry in stored.entries[1:3]] == ["s001", "s002"]
    with pytest.raises(IndexError):
        stored.entries[23]
    assert stored.facts("video_id") == [entry.facts["video_id"] for entry in made.entries]
    assert stored.facts("event") == [None] * 23
    assert stored.checksums("mp4") == [entry.members["mp4"].checksum for entry in made.entries]
    assert video_numbers(stored).tolist() == video_numbers(plain).tolist()
    assert SampleReader(stored).read(7) == SampleReader(plain).read(7)
    assert verify(path, decode=False) == []


def test_facts_keep_their_types_and_values(tmp_path: Path) -> None:
    """The fingerprint tells 8 from 8.0; what a column cannot hold exactly is kept beside it."""
    made = small_shards(tmp_path, 5)
    odd: list[dict[str, Any]] = [{"fps": 8}, {"video_id": "half \ud800"}, {"frames": 1 << 70}, {"fps": 0.1 + 0.2}, {}]
    entries = [replace(e, facts={**e.facts, **o}) for e, o in zip(made.entries, odd, strict=True)]
    index = replace(made, entries=tuple(entries))
    index.write(tmp_path / "train.index.json")
    read = Index.read(tmp_path / "train.index.json")
    assert list(read.entries) == entries
    assert type(read.entries[0].facts["fps"]) is int
    assert read.facts("fps") == [8, 4.0, 4.0, 0.1 + 0.2, 4.0]
    assert replace(read).fingerprint == index.fingerprint


def test_an_index_without_samples(tmp_path: Path) -> None:
    Index("vidpref/pairs", (), ()).write(tmp_path / "empty.index.json")
    assert len(Index.read(tmp_path / "empty.index.json")) == 0


def test_another_process_is_sent_the_path_and_not_the_samples(tmp_path: Path) -> None:
    small_shards(tmp_path, 200, per_shard=100)
    index = Index.read(tmp_path / "train.index.json")
    assert len(index.positions) == 200
    sent = pickle.dumps(index)
    assert len(sent) < 1500
    again = pickle.loads(sent)  # noqa: S301 its own
    assert "positions" not in again.__dict__
    assert again.fingerprint == index.fingerprint
    assert again.entries == index.entries
    columns_of(tmp_path / "train.index.json").unlink()
    with pytest.raises(ValueError, match=r"index-[0-9a-f]{12}\.arrow: was changed while a run reads it"):
        pickle.loads(sent)  # noqa: S301 its own


def test_indexes_of_both_formats_are_read_as_one(tmp_path: Path) -> None:
    first = small_shards(tmp_path / "a", 7)
    renamed = tuple(replace(entry, key=f"t{entry.key}") for entry in first.entries)
    second = without_columns(replace(first, entries=renamed), tmp_path / "a" / "other.index.json")
    both = joined([Index.read(tmp_path / "a" / "train.index.json"), second])
    assert both.keys == [*first.keys, *(f"t{key}" for key in first.keys)]
    assert [entry.shard for entry in both.entries] == [0] * 5 + [1] * 2 + [2] * 5 + [3] * 2
    assert both.entries[8] == replace(renamed[1], shard=2)
    assert both.facts("video_id") == first.facts("video_id") * 2
    assert both.checksums("json") == first.checksums("json") * 2
    whole = replace(both, entries=tuple(both.entries))
    assert both.fingerprint == whole.fingerprint
    with pytest.raises(ValueError, match="7 samples of two indexes have the same keys"):
        joined([first, first])


def test_a_column_file_that_no_index_names_is_removed(tmp_path: Path) -> None:
    former = small_shards(tmp_path, 7)
    path = tmp_path / "train.index.json"
    (tmp_path / "train.index-0123456789ab.arrow.tmp").write_bytes(b"half")
    (tmp_path / "train2.index-0123456789ab.arrow").write_bytes(b"another's")
    replace(former, made_from={"seed": 1}).write(path)
    assert Index.read(path).made_from == {"seed": 1}
    assert len(column_files(path)) == 1
    assert (tmp_path / "train2.index-0123456789ab.arrow").exists()


def set_columns(path: Path, change: Callable[[dict[str, list[Any]]], None], schema: pa.Schema | None = None) -> None:
    """Change the rows of a column file, and the index so that it names the new one rightly."""
    file = columns_of(path)
    table = pa.ipc.open_file(pa.py_buffer(file.read_bytes())).read_all()
    rows = table.to_pydict()
    change(rows)
    layout = schema or table.schema
    with pa.ipc.new_file(str(file), layout) as writer:
        writer.write_table(pa.table({name: rows[name] for name in layout.names}, schema=layout))
    named_rightly(path, file)


def named_rightly(path: Path, file: Path) -> None:
    header = json.loads(path.read_text())
    content = file.read_bytes()
    checksum = hashlib.blake2b(content, digest_size=16).hexdigest()
    header["columns"] = {"name": file.name, "bytes": len(content), "checksum": checksum}
    path.write_text(json.dumps(header))


def value(name: str, row: int, new: Any) -> Callable[[dict[str, list[Any]]], None]:
    return lambda rows: rows[name].__setitem__(row, new)


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


def test_a_checksum_of_another_kind_cannot_be_packed(tmp_path: Path) -> None:
    member = replace(small_shards(tmp_path, 1).entries[0], key="s")
    entry = SampleEntry("s", 0, {"mp4": member.members["mp4"]._replace(checksum="crc32")})
    with pytest.raises(ValueError, match="sample 's': checksum 'crc32' is not 32 hex digits"):
        Index("vidpref/vista", (ShardEntry("a.tar", 1 << 20, "", 1),), (entry,)).write(tmp_path / "a.index.json")
    assert not (tmp_path / "a.index.json").exists()
    assert column_files(tmp_path / "a.index.json") == []


def prepare(folder: Path, count: int) -> None:
    index_module.COLUMNS_FROM = 0  # in the killed process, which begins with none of this one's changes
    small_shards(folder, count)


def write_again(folder: Path, seed: int) -> None:
    index_module.COLUMNS_FROM = 0
    path = folder / "train.index.json"
    replace(Index.read(path), made_from={"seed": seed}).write(path)


@pytest.mark.slow
def test_a_kill_at_each_moment_leaves_the_former_index_or_the_new_one(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    prepare(whole, 7)
    expected, moment = contents(whole), 1
    while killed(partial(prepare, tmp_path / str(moment), 7), moment):
        folder = tmp_path / str(moment)
        if not (folder / "train.index.json").exists():
            prepare(folder, 11)  # other samples than the attempt had, and then those
            for path in folder.iterdir():
                path.unlink()
            prepare(folder, 7)
        Index.read(folder / "train.index.json")
        assert {name: content for name, content in contents(folder).items() if name in expected} == expected
        moment += 1
    assert moment > 6
    former, moment = Index.read(whole / "train.index.json").fingerprint, 1
    seeds = []
    while killed(partial(write_again, whole, moment), moment):
        seeds.append(Index.read(whole / "train.index.json").made_from.get("seed"))
        moment += 1
    assert seeds[0] is None
    assert seeds[-1] == moment - 1, "the last moment is the removal of the former columns"
    assert former != Index.read(whole / "train.index.json").fingerprint
    assert len(column_files(whole / "train.index.json")) == 1
