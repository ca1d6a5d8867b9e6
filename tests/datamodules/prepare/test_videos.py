"""Videos with captions to shards of clips: size, length and rate, faults."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.dense.rows import VideoRow
from datamodules.prepare import clip_cutter as module
from datamodules.prepare.clip_format import ClipFormat
from datamodules.prepare.verify import verify
from datamodules.prepare.video_filters import Candidate, Cuts, Duration
from datamodules.prepare.videos import prepare_videos, sample_key
from datamodules.shards.index import Index
from datamodules.video.codec import encode_mp4
from datamodules.video.facts import VideoFacts
from tests.support.annotated_videos import timed_video
from tests.support.small_clips import SMALL, lines, prepare, sample


def numbered(count: int, fps: float = 16.0) -> bytes:
    """Frame i is a plain 3 i, lossless."""
    frames = (torch.arange(count) * 3).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 32, 48)
    return encode_mp4(frames.contiguous(), fps, lossless=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One video of 40 frames at 16 a second, 2.5 s, with a caption."""
    root = tmp_path / "films"
    root.mkdir()
    (root / "a.mp4").write_bytes(numbered(40))
    (root / "a.txt").write_text("It gets brighter.")
    return root


def shown(index: Index, position: int = 0) -> list[int]:
    """The numbers of the frames of `numbered` in a clip."""
    row, frames = sample(index, position)
    assert frames.shape == (row.video.frames, 3, row.video.height, row.video.width)
    return [round(int(value) / 3) for value in frames[:, 0, 0, 0]]


def test_a_clip_is_the_middle_of_the_video_at_the_rate_asked_for(folder: Path) -> None:
    index = prepare(folder, source="mine")
    assert index.schema == "vidpref/videos"
    assert verify(folder.parent / "out.index.json") == []
    row, _ = sample(index)
    assert row == VideoRow("a", "a.mp4", "It gets brighter.", VideoFacts(9, 8.0, 48, 32), "mine", {"kept_area": 1.0})
    assert shown(index) == list(range(11, 28, 2))  # 17 of 40 frames, 11.5 before and after
    assert index.entries[0].facts == {
        "video_id": "a.mp4", "frames": 9, "fps": 8.0, "width": 48, "height": 32, "source": "mine",
        "scores": {"kept_area": 1.0},
    }  # fmt: skip


def test_the_videos_own_rate_and_exact_length(folder: Path) -> None:
    (folder / "a.mp4").write_bytes(numbered(9, fps=30000 / 1001))
    index = prepare(folder, fps=None)
    assert shown(index) == list(range(9))
    assert sample(index)[0].video.fps == pytest.approx(30000 / 1001)


def test_several_clips_do_not_overlap_and_spread_evenly(folder: Path) -> None:
    index = prepare(folder, clips_per_video=5)
    assert [entry.key for entry in index.entries] == ["a-00", "a-01"]
    first, second = shown(index), shown(index, 1)
    assert first == list(range(first[0], first[0] + 17, 2))
    assert second == list(range(second[0], second[0] + 17, 2))
    assert second[0] - first[0] >= 18
    assert first[0] == pytest.approx(39 - second[-1], abs=1)
    assert {entry.facts["video_id"] for entry in index.entries} == {"a.mp4"}


def test_frames_are_resized_and_cropped(folder: Path) -> None:
    frames = torch.zeros(9, 3, 40, 120, dtype=torch.uint8)
    frames[:, :, :, 40:80] = 200
    (folder / "a.mp4").write_bytes(encode_mp4(frames, 8, lossless=True))
    _, decoded = sample(prepare(folder, height=20, width=20))
    assert decoded.shape == (9, 3, 20, 20)
    assert decoded[..., 2:-2].min() > 190


def test_lossy_clips_are_close(folder: Path) -> None:
    exact, lossy = sample(prepare(folder))[1], sample(prepare(folder, "lossy", lossless=False))[1]
    assert (exact.float() - lossy.float()).abs().mean() < 4


@pytest.fixture
def bad_folder(folder: Path) -> Path:
    """The good video and every kind of bad one."""
    (folder / "b.mp4").write_bytes(numbered(10))
    (folder / "c.mp4").write_bytes(numbered(40, fps=4.0))
    (folder / "d.mp4").write_bytes(b"no video")
    (folder / "f.mp4").write_bytes((folder / "a.mp4").read_bytes())
    for name in "bcd":
        (folder / f"{name}.txt").write_text("A caption.")
    return folder


def test_all_faults_are_told_at_once_and_nothing_is_written(bad_folder: Path) -> None:
    with pytest.raises(ValueError, match="4 of 5 rows are bad, nothing was written") as caught:
        prepare(bad_folder, filters=[Cuts()])
    for message in (
        "  b.mp4, video: is too short: 10 frames at 16 a second are 0.62 s, 9 at 8 need 1.12 s",
        "  c.mp4, video: has 4 frames a second, 8 are asked for; lower fps, or set repeat_frames",
        "  d.mp4, video: undecodable video",
        "  f.mp4, caption: there is no f.txt beside it",
    ):
        assert message in str(caught.value)
    assert not list(bad_folder.parent.glob("out*"))


def test_a_video_without_a_constant_rate_is_bad(folder: Path) -> None:
    (folder / "a.mp4").write_bytes(timed_video([*range(0, 1000, 100), *range(1000, 9000, 900)]))
    with pytest.raises(ValueError, match=r"a.mp4, video: has no constant frame rate"):
        prepare(folder, fps=2.0)


def test_skip_bad_writes_the_good_and_lists_the_rest(bad_folder: Path) -> None:
    index = prepare(bad_folder, skip_bad=True, filters=[Cuts()])
    assert [entry.key for entry in index.entries] == ["a"]
    listed = lines(bad_folder.parent / "out.skipped.jsonl")
    assert [row["content"]["video"] for row in listed] == ["b.mp4", "c.mp4", "d.mp4", "f.mp4"]
    assert [trial["key"] for trial in lines(bad_folder.parent / "out.report.jsonl")] == ["a"]


def test_a_slow_video_may_repeat_its_frames(folder: Path) -> None:
    (folder / "a.mp4").write_bytes(numbered(5, fps=4.0))
    assert shown(prepare(folder, repeat_frames=True)) == [0, 0, 1, 1, 2, 2, 3, 3, 4]


def test_the_list_of_skipped_videos_can_be_mended_and_prepared(bad_folder: Path) -> None:
    prepare(bad_folder, skip_bad=True)
    listed = lines(bad_folder.parent / "out.skipped.jsonl")
    listed[3]["content"]["caption"] = "It gets brighter too."
    fixed = bad_folder.parent / "fixed.jsonl"
    fixed.write_text(json.dumps(listed[3]) + "\n")
    index = prepare(bad_folder, "more", captions=str(fixed))
    assert [sample(index, position)[0].caption for position in range(len(index))] == ["It gets brighter too."]


def damaged(folder: Path) -> None:
    """Makes a.mp4 a video whose first half alone can be decoded."""
    content = bytearray(encode_mp4(torch.randint(0, 255, (80, 3, 32, 48)).to(torch.uint8), 16))
    start = content.index(b"mdat") + 4
    middle = (start + len(content)) // 2
    content[middle : middle + 20000] = bytes(len(content[middle : middle + 20000]))
    (folder / "a.mp4").write_bytes(content)


def test_a_video_that_is_damaged_further_on_is_skipped_with_all_of_its_clips(folder: Path) -> None:
    (folder / "b.mp4").write_bytes((folder / "a.mp4").read_bytes())
    (folder / "b.txt").write_text("It gets brighter.")
    damaged(folder)
    filters = [Duration()]
    index = prepare(folder, clips_per_video=3, skip_bad=True, filters=filters)
    assert {entry.facts["video_id"] for entry in index.entries} == {"b.mp4"}
    assert [row["content"]["video"] for row in lines(folder.parent / "out.skipped.jsonl")] == ["a.mp4"]
    assert {trial["video"] for trial in lines(folder.parent / "out.report.jsonl")} == {"b.mp4"}


def test_one_clip_is_in_memory_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a.mp4").write_bytes(numbered(80))
    alive: list[int] = []
    most: list[int] = []
    stream_frames = module.stream_frames

    def counted(*arguments: Any) -> Iterator[tuple[int, torch.Tensor]]:
        for index, frame in stream_frames(*arguments):
            alive.append(index)
            yield index, frame

    def seen(self: Any, selection: Any, trial: Any, clip: Candidate) -> bool:
        most.append(len(alive))
        alive.clear()
        return True

    monkeypatch.setattr(module, "stream_frames", counted)
    monkeypatch.setattr(module.ClipCutter, "_stays", seen)
    assert len(prepare(folder, clips_per_video=4)) == 4
    assert most == [9, 9, 9, 9]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frames": 8}, "num_frames is 8; autoencoders want 4k . 1, as 5 or 9"),
        ({"num_frames": 0}, "as 1 or 5"),
        ({"height": 33}, "33 x 48 is no size"),
        ({"fps": 0.0}, "fps is 0"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"clips_per_video": 0}, "clips_per_video is 0"),
    ],
)
def test_options_are_checked_before_anything_is_read(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare_videos([str(tmp_path / "none")], str(tmp_path / "out"), **{**SMALL, **options})


def test_clips_start_within_the_video() -> None:
    clips = ClipFormat(32, 48, 17, 16.0, repeat=False)
    assert clips.starts(VideoFacts(17, 16.0, 48, 32), 3) == [0.0]
    assert clips.starts(VideoFacts(34, 16.0, 48, 32), 3) == pytest.approx([0.0, 17 / 16])
    assert clips.starts(VideoFacts(33, 16.0, 48, 32), 3) == pytest.approx([0.5])
    assert clips.starts(VideoFacts(24, 24000 / 1001, 48, 32), 1)[0] == pytest.approx(0, abs=0.05)
    with pytest.raises(ValueError, match="too short"):
        clips.starts(VideoFacts(16, 16.0, 48, 32), 1)


@pytest.mark.parametrize(
    ("first", "second"),
    [("a.mp4", "a.mov"), ("a b.mp4", "a-b.mp4"), ("a/b.mp4", "a-b.mp4"), ("x" * 80 + ".mp4", "x" * 81 + ".mp4")],
)
def test_keys_are_legal_and_unique(first: str, second: str) -> None:
    from datamodules.shards.index import key_fault

    assert sample_key(first) != sample_key(second)
    assert key_fault(sample_key(first)) is None
    assert len(sample_key(first)) < 80
