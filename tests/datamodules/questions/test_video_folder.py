"""Every frame of every video once: whatever the chunks, workers and ranks; and what a folder lacks is said at once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.questions.video_folder import FolderVideo, FrameChunk, VideoFolder
from datamodules.video.codec import decode_frames, encode_mp4

LENGTHS = {"a-0.mp4": 5, "b-0.mp4": 9, "b-1.mp4": 4, "c-0.mp4": 3, "d-0.mp4": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of different lengths, each frame with a colour of its own."""
    place = tmp_path_factory.mktemp("videos")
    for number, (name, length) in enumerate(LENGTHS.items()):
        frames = torch.zeros(length, 3, 16, 24, dtype=torch.uint8)
        frames += (torch.arange(length, dtype=torch.uint8) * 9 + number)[:, None, None, None]
        (place / name).write_bytes(encode_mp4(frames, 8.0, lossless=True))
    return place


def opened(folder: Path, rank: int = 0, world: int = 1, **settings: Any) -> VideoFolder:
    data = VideoFolder(str(folder), **{"num_workers": 0, **settings})
    data.trainer = SimpleNamespace(distributed_sampler_kwargs={"num_replicas": world, "rank": rank})  # type: ignore[assignment]
    data.setup("test")
    return data


def collected(chunks: list[FrameChunk]) -> dict[str, list[Tensor]]:
    frames: dict[str, list[Tensor]] = {}
    for chunk in chunks:
        if chunk.key:
            assert chunk.frames is not None
            assert chunk.first == sum(len(part) for part in frames.get(chunk.key, []))
            frames.setdefault(chunk.key, []).append(chunk.frames)
            assert chunk.last == (chunk.first + len(chunk.frames) == LENGTHS[chunk.key])
    return frames


@pytest.mark.parametrize(("workers", "world", "size"), [(0, 1, 4), (0, 3, 1), (2, 1, 3), (2, 2, 100), (0, 7, 2)])
def test_every_frame_comes_once_and_in_order(folder: Path, workers: int, world: int, size: int) -> None:
    videos: dict[str, list[Tensor]] = {}
    for rank in range(world):
        loader = opened(folder, rank, world, num_workers=workers, chunk_frames=size).test_dataloader()
        chunks = list(loader)
        assert len(chunks) == len(loader) >= 1
        assert all(chunk.frames is None or len(chunk.frames) <= size for chunk in chunks)
        mine = collected(chunks)
        assert not mine.keys() & videos.keys()
        videos |= mine
    assert sorted(videos) == sorted(LENGTHS)
    for name, frames in videos.items():
        assert torch.equal(torch.cat(frames), decode_frames(folder / name, range(LENGTHS[name])))


def test_several_videos_are_under_way_at_once(folder: Path) -> None:
    keys = [chunk.key for chunk in opened(folder, num_workers=2, chunk_frames=2).test_dataloader()]
    assert keys[:4] == ["a-0.mp4", "b-0.mp4", "a-0.mp4", "b-0.mp4"]


def test_what_is_skipped_is_not_read(folder: Path) -> None:
    data = opened(folder)
    data.skip([name for name in LENGTHS if name != "c-0.mp4"])
    assert {chunk.key for chunk in data.test_dataloader()} == {"c-0.mp4"}
    data.skip(LENGTHS)
    assert [chunk.key for chunk in data.test_dataloader()] == [""], "Lightning calls no hooks without a batch"


class _Counting:
    """Counts frames where they are decoded, and sends those of one video."""

    def __init__(self) -> None:
        self.seen = 0

    def start(self, video: FolderVideo) -> _Counting:
        return _Counting()

    def sends(self, video: FolderVideo) -> bool:
        return video.prompt == "b"

    def see(self, frames: Tensor, first: int) -> None:
        assert first == self.seen
        self.seen += len(frames)

    def result(self) -> dict[str, Any]:
        return {"frames": self.seen}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_watcher_sees_every_frame_and_only_wanted_frames_travel(folder: Path, workers: int) -> None:
    data = opened(folder, num_workers=workers, chunk_frames=4)
    data.watch(_Counting())
    chunks = list(data.test_dataloader())
    assert {chunk.key: chunk.seen["frames"] for chunk in chunks if chunk.last} == LENGTHS
    assert {chunk.key for chunk in chunks if chunk.frames is not None} == {"b-0.mp4", "b-1.mp4"}


def test_all_faults_are_listed_at_once_and_may_be_left_out(folder: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a\nb\nc\nz\nbroken\n")
    for name in LENGTHS:
        (tmp_path / name).symlink_to(folder / name)
    (tmp_path / "broken-0.mp4").write_bytes(b"no video")
    settings: dict[str, Any] = {"prompts": str(prompts), "least_frames": 4}
    with pytest.raises(ValueError, match=r"4 videos of .* cannot be scored as asked") as caught:
        opened(tmp_path, **settings)
    lines = str(caught.value).splitlines()[1:]
    assert [line.strip().split(":")[0] for line in lines] == ["a video of 'z'", "broken-0.mp4", "c-0.mp4", "d-0.mp4"]
    assert "missing" in lines[0]
    assert "undecodable" in lines[1]
    assert "has 3 frames, at least 4" in lines[2]
    assert "not in the list" in lines[3]
    data = opened(tmp_path, allow_missing=True, **settings)
    assert sorted(data.videos) == ["a-0.mp4", "b-0.mp4", "b-1.mp4"]
    assert sorted(data.left_out) == ["a video of 'z'", "broken-0.mp4", "c-0.mp4", "d-0.mp4"]


def test_a_missing_video_takes_no_other_with_it(folder: Path, tmp_path: Path) -> None:
    """The missing cat would be called as the file is that shows a dog."""
    for name in ("cat-0.mp4", "bird-0.mp4"):
        (tmp_path / name).symlink_to(folder / "a-0.mp4")
    (tmp_path / "manifest.json").write_text('{"cat-0.mp4": "dog"}')
    (tmp_path / "prompts.txt").write_text("cat\ndog\nbird\n")
    data = opened(tmp_path, prompts=str(tmp_path / "prompts.txt"), num_samples=1, allow_missing=True)
    assert sorted((video.key, video.prompt) for video in data.videos.values()) == [
        ("bird-0.mp4", "bird"),
        ("cat-0.mp4", "dog"),
    ]
    assert data.left_out == {"video 0 of 'cat'": "is missing"}


def test_damage_further_on_ends_the_video_and_names_it(folder: Path, tmp_path: Path) -> None:
    data = opened(folder, limit=1)
    video = data.videos["a-0.mp4"]
    content = (folder / "b-0.mp4").read_bytes()
    (tmp_path / "x-0.mp4").write_bytes(content)
    data = opened(tmp_path, chunk_frames=2)
    # Cut after it was looked at, as by a full disk.
    (tmp_path / "x-0.mp4").write_bytes(video.path.read_bytes())
    chunks = list(data.test_dataloader())
    assert "undecodable frame 8" in chunks[-1].failed
    assert chunks[-1].last
    assert not any(chunk.last for chunk in chunks[:-1])


def test_settings_that_need_each_other(folder: Path) -> None:
    with pytest.raises(ValueError, match="need the list of prompts"):
        VideoFolder(str(folder), num_samples=5)
    with pytest.raises(ValueError, match=r"data\.chunk_frames is 0"):
        VideoFolder(str(folder), chunk_frames=0)
