"""Writing shards and reading them back; what is refused, and how it is said."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import webdataset

from datamodules.schemas import index_shards, write_shards
from datamodules.shards.byte_reader import ByteReader
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.video.facts import VideoFacts
from datamodules.vista.index_facts import vista_facts
from datamodules.vista.samples import Box
from tests.support.flow_shards import pair_row, pair_sample
from tests.support.shard_samples import row, sample, samples, small_shards, tar_of

SIDE = "vidpref/side"


def test_webdataset_reads_what_was_written(tmp_path: Path) -> None:
    index = small_shards(tmp_path)
    assert [shard.name for shard in index.shards] == [f"train-{n:06d}.tar" for n in range(5)]
    assert index.shard_counts == [5, 5, 5, 5, 3]
    addresses = [shard.address for shard in index.shards]
    read = [
        (sample["__key__"], {suffix: sample[suffix] for suffix in ("mp4", "json")})
        for sample in webdataset.WebDataset(addresses, shardshuffle=False, empty_check=False)
    ]
    assert read == list(samples(23))


def test_webdataset_streams_what_the_loader_gives(tmp_path: Path) -> None:
    """Pairs, whose members' suffixes have two parts, through webdataset's own reader and through the index."""
    pairs = [pair_sample(pair_row(f"part/p{number:02d}")) for number in range(6)]
    index = write_shards(pairs, tmp_path / "pairs", "vidpref/pairs", samples_per_shard=4)
    stream = webdataset.WebDataset([shard.address for shard in index.shards], shardshuffle=False)
    reader = SampleReader(index)
    for position, streamed in enumerate(stream):
        assert streamed["__key__"] == index.entries[position].key
        assert {name: streamed[name] for name in streamed if not name.startswith("__")} == reader.read(position)
        assert reader.read(position) == pairs[position][1]
    assert position == 5


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
    assert small_shards(tmp_path / "again").fingerprint == index.fingerprint, "equal samples give equal bytes"
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


def test_an_interrupted_writing_leaves_its_neighbours(tmp_path: Path) -> None:
    """Under a name that reads as a pattern: only the output's own unfinished shards go."""
    names = ["tran-000000.tar.tmp", "tr[ai]n-part1-000000.tar.tmp", "tr[ai]n-000000.tar.tmp2", "tr[ai]n-x.tar.tmp"]
    for name in names:
        (tmp_path / name).write_text("precious")

    def interrupted() -> Iterator[tuple[str, dict[str, bytes]]]:
        yield from samples(3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(interrupted(), tmp_path / "tr[ai]n", samples_per_shard=1)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(names, "precious")


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


@pytest.mark.parametrize("number", [0, -3])
def test_a_shard_holds_a_sample_at_least(tmp_path: Path, number: int) -> None:
    with pytest.raises(ValueError, match=f"samples_per_shard is {number}; give 1 or more"):
        write_shards(samples(2), tmp_path / "train", samples_per_shard=number)
    with pytest.raises(ValueError, match=r"a\.tar: holds no sample"):
        index_shards([tar_of(tmp_path / "a.tar", {})])
