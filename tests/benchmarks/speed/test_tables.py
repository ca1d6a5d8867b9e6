"""The commands beside single steps: epochs, parts of a step, loader, frames, length; at sizes that mean nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from benchmarks.speed import length, measure, profile, videos
from benchmarks.speed.__main__ import COMMANDS, main
from benchmarks.speed.frames import with_frames
from benchmarks.speed.loader import _bare, loader_rates, shown_frames, vista_loader
from benchmarks.speed.measure import timed_step
from benchmarks.speed.options import FramesOptions, LoaderOptions, clock_line
from benchmarks.speed.videos import FPS, moving_texture, repeated, texture_video, write_samples
from datamodules.video.codec import decode_frames, probe
from datamodules.video.facts import VideoFacts

FACTS = VideoFacts(24, FPS, 64, 36)


def quick(tmp_path: Path, command: str, *flags: str) -> dict[str, Any]:
    file = tmp_path / f"{command}.json"
    main([command, "--quick", f"--json={file}", *flags])
    content: dict[str, Any] = json.loads(file.read_text())
    return content


# Clocks and options


def test_quick_sizes_are_options_of_their_command() -> None:
    for name, (options, _, _) in COMMANDS.items():
        assert options.quick(), name
        options(**options.quick())


def test_a_size_that_is_given_comes_before_the_quick_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    kind, _, text = COMMANDS["loader"]
    monkeypatch.setitem(COMMANDS, "loader", (kind, seen.append, text))  # type: ignore[arg-type]
    main(["loader", "--quick", "--samples=7"])
    main(["loader"])
    assert [(options.samples, options.height) for options in seen] == [(7, 36), (12, 1080)]


def test_the_processors_clock_does_not_run_while_a_step_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    class Waiting:
        def __call__(self) -> torch.Tensor:
            measure.time.sleep(0.2)
            return torch.zeros((), requires_grad=True) * 1

        def clear(self) -> None:
            """Nothing is kept."""

    assert timed_step(Waiting(), "wall") >= 0.2
    assert timed_step(Waiting(), "cpu") < 0.1
    assert "processor" in clock_line("cpu")
    assert "wall" in clock_line("wall")


def test_the_clock_of_a_part_stands_still_while_another_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    now: Iterator[float] = iter([0.0, 1.0, 3.0, 7.0])
    monkeypatch.setattr(profile.time, "process_time", lambda: next(now))
    times = profile.PartTimes("cpu")
    with times("terms"), times("policy"):
        pass
    assert times.seconds == {"terms": 1.0 + 4.0, "policy": 2.0}


# Videos


def test_a_repeated_video_is_the_part_again_and_again(tmp_path: Path) -> None:
    part = texture_video(12, 36, 64)
    repeated(part, 5, tmp_path / "long.mp4")
    facts = probe(tmp_path / "long.mp4", constant_rate=True)
    assert (facts.frames, facts.fps) == (60, FPS)
    frames = decode_frames(tmp_path / "long.mp4", [7, 12 + 7, 4 * 12 + 7])
    assert torch.equal(frames[0], frames[1])
    assert torch.equal(frames[0], frames[2])
    with av.open(str(tmp_path / "long.mp4")) as container:
        keys = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
    assert sum(keys) == 5


def test_the_texture_moves() -> None:
    frames = moving_texture(3, 36, 64)
    assert frames.shape == (3, 36, 64, 3)
    assert np.array_equal(frames[0, 1:, 1:], frames[1, :-1, :-1])
    assert frames.std() > 10


# The loader


def test_frames_and_samples_are_the_same_in_all_rows(tmp_path: Path) -> None:
    options = LoaderOptions(**LoaderOptions.quick())
    index_file = write_samples(tmp_path, options.samples, FACTS, 0)
    shown = shown_frames(index_file, options)
    assert len(shown) == options.samples
    for batch in vista_loader(index_file, options.frames, 0):
        views = {view.name: view.frames for view in batch.views}
        assert len(views) == 6
        # Each view's frames are among those that bare decoding gives, but for the changed object frame.
        bare = _bare(videos.texture_video(24, 36, 64), shown[batch.keys[0]])
        given = {frame.tobytes() for frame in bare.transpose(0, 3, 1, 2)}
        for name in ("original", "video_negative", "clip", "clip_negative", "object"):
            assert {frame.numpy().tobytes() for frame in views[name]} <= given
        assert len(given) == len(
            {frame.numpy().tobytes() for name, view in views.items() if name != "object_negative" for frame in view}
        )


@pytest.mark.slow
def test_the_loaders_rows(tmp_path: Path) -> None:
    rates = loader_rates(LoaderOptions(**LoaderOptions.quick()), tmp_path)
    assert [(rate.name, rate.workers) for rate in rates] == [
        ("bare PyAV decoding", 0),
        ("ours", 0),
        ("plain webdataset", 0),
        ("ours", 1),
        ("plain webdataset", 1),
    ]
    assert all(rate.samples == 3 and rate.rate > 0 and rate.cpu_seconds > 0 for rate in rates)
    # Of workers the first batch starts the clock.
    assert [rate.counted for rate in rates] == [3, 3, 3, 2, 2]


def test_the_bytes_of_a_sample(tmp_path: Path) -> None:
    checkpoints = '["LanguageBind/Video-LLaVA-7B-hf", "google/gemma-4-E4B-it"]'
    rows = quick(tmp_path, "sample", f"--checkpoints={checkpoints}", "--height=540", "--width=960")["rows"]
    grid = 3 * 288 * 528  # of Gemma 4: at most 70 tokens of 48 x 48 pixels
    sizes = [3 * 540 * 960, 3 * 540 * 960, 3 * 224 * 224, grid]
    counts = [row["bytes"] / size for row, size in zip(rows, sizes, strict=True)]
    assert counts[0] == 12
    assert counts[1] < 12
    assert counts[2:] == counts[1:2] * 2


# Memory and length


def test_more_frames_are_a_longer_prefix() -> None:
    options = FramesOptions()
    sizes = [with_frames(options, count) for count in options.counts]
    assert [size.prefix - size.video_tokens for size in sizes] == [options.question] * 4
    assert [size.video_tokens for size in sizes] == [976, 1952, 3904, 7808]
    assert all(size.tower and size.checkpointing for size in sizes)


@pytest.mark.slow
def test_the_memory_of_frames(tmp_path: Path) -> None:
    rows = quick(tmp_path, "frames", "--counts=[2]")["rows"]
    assert [row["frames"] for row in rows] == [2]
    assert all(0 < row["before"] <= row["peak"] for row in rows)


def test_reading_by_key_frames_decodes_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: how much is decoded is counted, not timed."""
    repeated(texture_video(24, 36, 64), 20, tmp_path / "long.mp4")
    decoded: list[int] = []
    following = length.codec._next_image
    monkeypatch.setattr(
        length.codec, "_next_image", lambda images, index: decoded.append(index) or following(images, index)
    )
    monkeypatch.setattr(length.codec, "far_apart", length.codec.far_apart)  # which reading in one pass replaces
    counts = []
    for seek in (True, False):
        decoded.clear()
        reading = length._read(tmp_path / "long.mp4", [0, 240, 470], seek)
        assert 0 < reading.before <= reading.peak
        counts.append(len(decoded))
    assert counts[0] < 60
    assert counts[1] == 471


@pytest.mark.slow
def test_the_lengths(tmp_path: Path) -> None:
    rows = quick(tmp_path, "length", "--minutes=[0.1]")["rows"]
    assert [(row["minutes"], row["frames"]) for row in rows] == [(0.1, 144)]
    assert all(row[way]["cpu_seconds"] > 0 for row in rows for way in ("seek", "pass"))


# Whole runs


@pytest.mark.slow
def test_a_remembered_reference_is_read_from_the_second_epoch_on(tmp_path: Path) -> None:
    content = quick(tmp_path, "epochs", "--clock=cpu")
    seconds = {row["name"]: row["seconds"] for row in content["rows"]}
    assert list(seconds) == ["A released schedule + tower", "ours, live", "ours, remembered"]
    assert all(len(epochs) == 2 and min(epochs) > 0 for epochs in seconds.values())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "parts"),
    [
        ("profile", ["loader", "tower", "reference", "policy", "terms", "backward", "optimizer"]),
        ("profile_dense", ["reference", "policy", "terms", "backward", "optimizer"]),
    ],
)
def test_the_parts_of_a_step(tmp_path: Path, command: str, parts: list[str]) -> None:
    rows = quick(tmp_path, command, "--clock=cpu")["rows"]
    assert [row["name"] for row in rows] == parts
    assert sum(row["share"] for row in rows) == pytest.approx(1.0)
    assert all(row["share"] > 0 for row in rows)
