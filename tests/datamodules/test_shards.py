"""Writing, indexing and checking shards; what is refused, and how it is said."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import webdataset
from shard_samples import flip_byte, row, sample, samples, small_shards

from datamodules.samples import Box, PreferenceRow, VideoFacts
from datamodules.shards import (
    BadSampleError,
    ByteReader,
    Index,
    ReadFailedError,
    SampleReader,
    check,
    index_shards,
    load_index,
    vista_facts,
    write_shards,
)

SIDE = "vidpref/side"


def tar_of(path: Path, members: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if name.endswith("/") else kind
            info.size = len(content) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(content))
    return path


def members_of(key: str) -> dict[str, bytes]:
    return {f"{key}.{suffix}": content for suffix, content in sample(key)[1].items()}


def test_webdataset_reads_what_was_written(tmp_path: Path) -> None:
    index = small_shards(tmp_path)
    assert [shard.name for shard in index.shards] == [f"train-{n:06d}.tar" for n in range(5)]
    assert index.shard_counts == [5, 5, 5, 5, 3]
    addresses = [shard.address for shard in index.shards]
    read = [
        (one["__key__"], {suffix: one[suffix] for suffix in ("mp4", "json")})
        for one in webdataset.WebDataset(addresses, shardshuffle=False, empty_check=False)
    ]
    assert read == list(samples(23))


def test_offsets_and_facts(tmp_path: Path) -> None:
    clip = VideoFacts(4, 4.0, 32, 24)
    rich = {
        "event": (0.5, 1.0), "boxes": (Box(1, 2, 3, 4), Box(1, 2, 3, 4, time=0.5)), "irrelevant": "Rain.",
        "clip": clip, "key_frame": True, "source": "toy/order",
    }  # fmt: skip
    key, members = sample("s007", **rich)
    members |= {"clip.mp4": b"clip", "frame.jpg": b"", "notes.safetensors": b"tensors"}
    index = write_shards([sample("s000"), (key, members)], tmp_path / "train")
    assert SampleReader(index).read(1) == members
    assert SampleReader(index).read(1, ["clip.mp4", "absent.mp4"]) == {"clip.mp4": b"clip"}
    assert index.positions == {"s000": 0, "s007": 1}
    assert index.entries[1].facts == vista_facts(row("s007", **rich)) == {
        "video_id": "video3", "frames": 8, "fps": 4.0, "width": 32, "height": 24, "event": [0.5, 1.0],
        "boxes": [[1, 2, 3, 4, None], [1, 2, 3, 4, 0.5]], "irrelevant": True,
        "clip": {"frames": 4, "fps": 4.0, "width": 32, "height": 24}, "clip_negative": None, "key_frame": True,
        "source": "toy/order",
    }  # fmt: skip


def test_members_far_apart_take_a_read_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {"a.mp4": b"a" * 10, "b.mp4": b"b" * 200_000, "c.mp4": b"c" * 10}
    index = write_shards([("one", members)], tmp_path / "side", SIDE)
    reads: list[int] = []
    read = ByteReader.read

    def counted(self: ByteReader, address: str, offset: int, size: int, what: str) -> bytes:
        reads.append(size)
        return read(self, address, offset, size, what)

    monkeypatch.setattr(ByteReader, "read", counted)
    assert SampleReader(index).read(0, ["a.mp4", "c.mp4"]) == {"a.mp4": members["a.mp4"], "c.mp4": members["c.mp4"]}
    assert reads == [10, 10]
    reads.clear()
    assert SampleReader(index).read(0) == members
    assert len(reads) == 1


def test_index_survives_writing_moving_and_indexing_again(tmp_path: Path) -> None:
    index = small_shards(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    moved = Index.read(tmp_path / "there" / "train.index.json")
    assert moved.entries == index.entries
    assert moved.fingerprint == index.fingerprint
    assert moved.address(7) == str(tmp_path / "there" / "train-000001.tar")
    again = index_shards(sorted((tmp_path / "there").glob("*.tar")))
    assert again.entries == index.entries
    assert again.fingerprint == index.fingerprint
    assert small_shards(tmp_path / "anew").fingerprint == index.fingerprint, "equal samples give equal bytes"
    assert small_shards(tmp_path / "fewer", count=22).fingerprint != index.fingerprint


def test_a_shard_is_closed_by_its_bytes_too(tmp_path: Path) -> None:
    content = ((f"k{n}", {"x.mp4": bytes(1000)}) for n in range(6))
    assert write_shards(content, tmp_path / "side", SIDE, max_bytes=1500).shard_counts == [2, 2, 2]


def test_writing_holds_one_sample_at_a_time(tmp_path: Path) -> None:
    alive: list[int] = []

    class Counted(bytes):
        def __init__(self, _: object) -> None:
            alive.append(1)

        def __del__(self) -> None:
            alive.pop()

    def stream() -> Iterator[tuple[str, dict[str, bytes]]]:
        for number in range(20):
            assert len(alive) <= 2
            yield f"k{number}", {"x.mp4": Counted(bytes(100))}

    assert len(write_shards(stream(), tmp_path / "side", SIDE, samples_per_shard=3)) == 20


def test_nothing_is_left_of_an_interrupted_writing(tmp_path: Path) -> None:
    def interrupted() -> Iterator[tuple[str, dict[str, bytes]]]:
        yield from samples(12)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(interrupted(), tmp_path / "train", samples_per_shard=5)
    assert list(tmp_path.iterdir()) == []
    assert len(small_shards(tmp_path)) == 23


def test_what_interrupted_the_writing_is_what_is_raised(tmp_path: Path) -> None:
    """The shard at hand is not examined any more: it would be refused, and that hide the reason."""

    def interrupted() -> Iterator[tuple[str, dict[str, bytes]]]:
        yield "s1", {"mp4": b"a sample without its row"}
        raise OSError("the disk with the videos is gone")

    with pytest.raises(OSError, match="the disk with the videos is gone"):
        write_shards(interrupted(), tmp_path / "train")
    assert list(tmp_path.iterdir()) == []


def test_sealed_shards_are_never_rewritten(tmp_path: Path) -> None:
    small_shards(tmp_path)
    with pytest.raises(ValueError, match=r"train.index.json, train-000000.tar, .* are there already; delete them"):
        small_shards(tmp_path)
    (tmp_path / "train.index.json").unlink()
    with pytest.raises(ValueError, match="there already"):
        small_shards(tmp_path)


@pytest.mark.parametrize(
    ("key", "members", "why"),
    [
        ("../s1", {"a.mp4": b""}, "leaves its folder"),
        ("/s1", {"a.mp4": b""}, "leaves its folder"),
        ("part/../../s1", {"a.mp4": b""}, "leaves its folder"),
        ("s1.5", {"a.mp4": b""}, "has a dot"),
        ("", {"a.mp4": b""}, "has an empty part"),
        ("s\n1", {"a.mp4": b""}, "control character"),
        ("s1", {"pyd": b""}, r"member \.pyd is refused"),
        ("s1", {"answers.pickle": b""}, r"member \.answers\.pickle is refused"),
        ("s1", {"safetensors": b""}, r"member \.safetensors is refused"),
        ("s1", {"a.b.mp4": b""}, "is refused"),
    ],
)
def test_refused_keys_and_members(tmp_path: Path, key: str, members: dict[str, bytes], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        write_shards([(key, members)], tmp_path / "side", SIDE)
    assert list(tmp_path.iterdir()) == []
    tar_of(tmp_path / "side-000000.tar", {f"{key}.{suffix}": content for suffix, content in members.items()})
    with pytest.raises(ValueError, match=r"side-000000.tar"):
        index_shards([tmp_path / "side-000000.tar"], SIDE)


def test_a_key_with_a_folder_is_allowed(tmp_path: Path) -> None:
    index = write_shards([("part/s1", {"a.mp4": b"1"})], tmp_path / "side", SIDE)
    assert SampleReader(index).read(index.positions["part/s1"]) == {"a.mp4": b"1"}


def test_doubles_and_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'s001' appears twice"):
        write_shards([sample("s001"), sample("s002"), sample("s001")], tmp_path / "train", samples_per_shard=1)
    with pytest.raises(ValueError, match="no sample to write"):
        write_shards([], tmp_path / "train")
    assert list(tmp_path.iterdir()) == []


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
    check(index)
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
    with pytest.raises(ValueError, match=r"train-000001.tar.*\n.*train-000003.tar"):
        check(index)
    with pytest.raises(ValueError, match="no index is given"):
        load_index([], "vidpref/vista")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda c: c.update(schema="vidpref/other"), "schema 'vidpref/other', wanted vidpref/vista"),
        (lambda c: c.update(schema="vidpref/side"), "schema 'vidpref/side', wanted vidpref/vista"),
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
    with pytest.raises(ValueError, match="'s000' appears twice"):
        load_index([paths[0], paths[0]], "vidpref/vista")


def test_side_shards_name_what_they_were_made_from(tmp_path: Path) -> None:
    source = small_shards(tmp_path / "source")
    made_from = {"fingerprint": source.fingerprint, "seed": 3}
    scores = ((key, {"scores.safetensors": b"tensors"}) for key, _ in samples(23))
    write_shards(scores, tmp_path / "side" / "scores", SIDE, made_from=made_from)
    side = load_index(tmp_path / "side" / "scores.index.json", SIDE)
    assert side.made_from == made_from
    side.require_made_from(fingerprint=source.fingerprint, seed=3)
    with pytest.raises(ValueError, match="seed: made from 3, wanted 4; policy: made from None, wanted 'x'"):
        side.require_made_from(fingerprint=source.fingerprint, seed=4, policy="x")
    assert replace(side, made_from={}).fingerprint != side.fingerprint


def test_facts_can_be_the_callers_own(tmp_path: Path) -> None:
    def facts_of(key: str, record: dict[str, Any], suffixes: object) -> dict[str, Any]:
        return {"chosen": PreferenceRow.from_json(record).chosen}

    index = write_shards(samples(2), tmp_path / "train", facts_of=facts_of)
    assert index.entries[0].facts == {"chosen": "A disc."}
