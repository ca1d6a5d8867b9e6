"""Shards that others wrote, moved or damaged: indexing them, checking them, reading several as one."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datamodules.prepare.verify import verify
from datamodules.schemas import index_shards, write_shards
from datamodules.shards.byte_reader import BadSampleError, ReadFailedError
from datamodules.shards.checks import load_index, shard_faults
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.vista.samples import PreferenceRow
from tests.support.annotated_videos import annotated, timed_video
from tests.support.shard_samples import flip_byte, members_of, sample, samples, small_shards, tar_of

SIDE = "vidpref/side"


def rewritten(change: Callable[[dict[str, Any]], None]) -> dict[str, bytes]:
    key, members = sample("s001")
    record = json.loads(members["json"])
    change(record)
    return {f"{key}.mp4": b"video", f"{key}.json": json.dumps(record).encode()}


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ({"s1.mp4": b"", "s1.json": b"{not json"}, "s1: .json cannot be parsed"),
        ({"s1.mp4": b"", "s1.json": b"[1]"}, "s1: .json is not a preference row"),
        ({"s1.mp4": b""}, "s1: .json is not a preference row"),
        ({"s001.json": members_of("s001")["s001.json"]}, "s001: .mp4 is missing"),
        (rewritten(lambda r: r.update(clip=r["video"])), "s001: .clip.mp4 is missing"),
        (rewritten(lambda r: r.update(chosen=" ")), "s001: chosen: is empty"),
        (rewritten(lambda r: r.update(key="s002")), "s001: key: the row says 's002'"),
        (rewritten(lambda r: r.update(event=[1, 9])), r"event: \[1, 9\] s is not a span inside"),
        (rewritten(lambda r: r.update(video=None)), "s001: .json is not a preference row"),
        (rewritten(lambda r: r.update(colour="red")), "unexpected keyword argument 'colour'"),
        ({**members_of("s1"), **members_of("s2"), "s1.clip.mp4": b""}, "s1.clip.mp4: .* must follow one another"),
    ],
)
def test_samples_of_others_are_checked_when_indexed(tmp_path: Path, members: dict[str, bytes], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        index_shards([tar_of(tmp_path / "a.tar", members)])


def test_indexing_lists_every_fault_at_once(tmp_path: Path) -> None:
    good = tar_of(tmp_path / "a.tar", {"./": b"", **{f"./{name}": c for name, c in members_of("s1").items()}})
    link = tar_of(tmp_path / "b.tar", {"s2.mp4": b""}, kind=tarfile.SYMTYPE)
    with pytest.raises(ValueError, match="no such shard") as error:
        index_shards([good, link, tmp_path / "c.tar", tar_of(tmp_path / "d.tar", {"s3.pth": b""})])
    text = str(error.value)
    assert all(part in text for part in ("b.tar: s2.mp4: is a link", "c.tar: no such shard", "d.tar: s3.pth: member"))
    assert "a.tar" not in text
    with pytest.raises(ValueError, match="several folders"):
        index_shards([good, tmp_path / "other" / "a.tar"])


def test_no_cut_of_a_shard_goes_unseen(tmp_path: Path) -> None:
    """Cut at a header, in a header or in a member, tarfile alone ends without a word at some of these places."""
    whole = Path(small_shards(tmp_path, count=3).address(0))
    content = whole.read_bytes()
    end = len(content.rstrip(b"\0"))
    cut = tmp_path / "cut.tar"
    for size in [*range(100, end, 331), *range(512, end, 512)]:
        cut.write_bytes(content[:size])
        with pytest.raises(ValueError, match=r"cut.tar"):
            index_shards([cut])
    gz = tmp_path / "gz.tar"
    with tarfile.open(gz, "w:gz") as tar:
        tar.add(whole, "s1.mp4")
    with pytest.raises(ValueError, match=r"gz.tar: is not a whole, uncompressed tar"):
        index_shards([gz])


def test_checks_before_training_list_everything(tmp_path: Path) -> None:
    index = small_shards(tmp_path)
    assert shard_faults(index) == []
    Path(index.shards[1].address).unlink()
    Path(index.shards[3].address).chmod(0o644)
    with Path(index.shards[3].address).open("ab") as file:
        file.write(b"x")
    (tmp_path / "old.index.json").write_text('{"schema": "vidpref/vista", "version": 7}')
    paths = [tmp_path / "train.index.json", tmp_path / "absent.index.json", tmp_path / "old.index.json"]
    with pytest.raises(ValueError, match="no such index") as error:
        load_index(paths, "vidpref/vista")
    text = str(error.value)
    assert "train-000001.tar: no such shard" in text
    size = index.shards[3].bytes
    assert f"train-000003.tar: has {size + 1} bytes, the index says {size}" in text
    assert "absent.index.json: no such index; `vidpref prepare index`" in text
    assert "old.index.json: vidpref/vista version 7, this release reads version 1" in text
    first, second = shard_faults(index)
    assert "train-000001.tar" in first
    assert "train-000003.tar" in second
    with pytest.raises(ValueError, match="no index is given"):
        load_index([], "vidpref/vista")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda c: c.update(schema="vidpref/other"), "schema 'vidpref/other', expected vidpref/vista"),
        (lambda c: c.update(schema="vidpref/side"), "schema 'vidpref/side', expected vidpref/vista"),
        (lambda c: c["shards"][0].update(name="pipe:cat x.tar"), "'pipe:cat x.tar' is not a plain file name"),
        (lambda c: c["shards"][0].update(name="../x.tar"), "'../x.tar' is not a plain file name"),
        (lambda c: c["samples"][0].update(key="../s"), r"sample '\.\./s' leaves its folder"),
        (lambda c: c["samples"][0]["members"].update(pkl=[0, 1, ""]), r"member \.pkl is refused"),
        (lambda c: c["samples"].pop(), "has 2 samples here, its own count says 3"),
        (lambda c: c["samples"].reverse(), "not in the order of the shards"),
        (lambda c: c["samples"][0].update(shard=9), "is in shard number 9, there are 5"),
        (lambda c: c["samples"][0].pop("facts"), "is damaged"),
    ],
)
def test_an_index_from_elsewhere_is_not_trusted(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], why: str
) -> None:
    small_shards(tmp_path)
    path = tmp_path / "train.index.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=why):
        load_index(path, "vidpref/vista")


@pytest.mark.parametrize(
    "address", ["pipe:cat data/train.index.json", "simplecache::http://a/b.index.json", "ftp://a/b.index.json"]
)
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(ValueError, match="is refused; give a local path or an http"):
        Index.read(address)


def test_a_broken_index_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.index.json").write_text('{"schema":')
    with pytest.raises(ValueError, match=r"a.index.json: is not an index"):
        Index.read(tmp_path / "a.index.json")


def test_altered_bytes_and_a_vanished_shard_name_shard_and_key(tmp_path: Path) -> None:
    index = small_shards(tmp_path)
    flip_byte(index, 7)
    with pytest.raises(BadSampleError, match=r"train-000001.tar: sample 's007': .mp4 was altered"):
        SampleReader(index).read(7)
    assert set(SampleReader(index).read(7, ["json"])) == {"json"}
    Path(index.address(0)).unlink()
    with pytest.raises(ReadFailedError, match=r"train-000000.tar: sample 's002' cannot be read"):
        SampleReader(index).read(2)


def test_several_indexes_are_read_as_one(tmp_path: Path) -> None:
    first = small_shards(tmp_path / "a", count=7)
    content = (
        (key.replace("s", "t"), {"mp4": m["mp4"], "json": m["json"].replace(b'"s0', b'"t0')}) for key, m in samples(6)
    )
    second = write_shards(content, tmp_path / "b" / "train", samples_per_shard=4)
    paths = [tmp_path / "a" / "train.index.json", tmp_path / "b" / "train.index.json"]
    both = load_index(paths, "vidpref/vista")
    assert both.shard_counts == [5, 2, 4, 2]
    assert SampleReader(both).read(both.positions["t005"]) == SampleReader(second).read(5)
    assert len({both.fingerprint, first.fingerprint, second.fingerprint}) == 3


def test_indexes_with_the_same_keys_are_named_with_the_mend(tmp_path: Path) -> None:
    for folder, count in (("a", 7), ("b", 6)):
        small_shards(tmp_path / folder, count)
    paths = [tmp_path / folder / "train.index.json" for folder in ("a", "b")]
    message = r"6 samples .*'s000' is in .*a/train-000000\.tar and in .*b/train-000000\.tar; .* a file of another name"
    with pytest.raises(ValueError, match=message):
        load_index(paths, "vidpref/vista")


def test_side_shards_name_what_they_were_made_from(tmp_path: Path) -> None:
    source = small_shards(tmp_path / "source")
    made_from = {"fingerprint": source.fingerprint, "seed": 3}
    scores = ((key, {"scores.safetensors": b"tensors"}) for key, _ in samples(23))
    write_shards(scores, tmp_path / "side" / "scores", SIDE, made_from=made_from)
    side = load_index(tmp_path / "side" / "scores.index.json", SIDE)
    assert side.made_from == made_from
    assert replace(side, made_from={}).fingerprint != side.fingerprint


def test_facts_can_be_the_callers_own(tmp_path: Path) -> None:
    def facts_of(key: str, record: dict[str, Any], suffixes: object) -> dict[str, Any]:
        return {"chosen": PreferenceRow.from_json(record).chosen}

    index = write_shards(samples(2), tmp_path / "train", facts_of=facts_of)
    assert index.entries[0].facts == {"chosen": "A disc."}


def test_verify_finds_a_video_without_a_constant_rate(tmp_path: Path) -> None:
    uneven = {"mp4": timed_video([0, 50, 100, 1000, 2000, 3000])}
    row, members = annotated("s001", members=uneven, event=None, boxes=())
    write_shards([(row.key, members)], tmp_path / "train")
    (problem,) = verify(tmp_path / "train.index.json")
    assert "sample 's001': .mp4: ValueError: has no constant frame rate" in problem
