"""Indexes whose samples are columns in a mapped file: the same as the others."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from datamodules.prepare.verify import verify
from datamodules.shards import index as index_module
from datamodules.shards.column_files import column_files
from datamodules.shards.index import Index, SampleEntry, ShardEntry
from datamodules.shards.joined_index import joined
from datamodules.shards.sample_reader import SampleReader
from datamodules.vista.partners import video_numbers
from tests.support.index_columns import columns_of
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
