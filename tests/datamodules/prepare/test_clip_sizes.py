"""What the crop to the clips' shape keeps: counted, bounded, and shared out among several sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import vidpref
from datamodules.prepare.clip_format import kept_area, parse_sizes
from datamodules.prepare.verify import verify
from datamodules.prepare.video_filters import KeptArea
from datamodules.shards.index import Index
from datamodules.video.facts import VideoFacts
from tests.support.annotated_videos import numbered_video
from tests.support.small_clips import lines, prepare, sample

SIZES = {"height": 32, "width": 48, "num_frames": 5}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A wide video, an upright one and a square one."""
    root = tmp_path / "films"
    root.mkdir()
    for name, size in {"wide": (32, 48), "upright": (96, 32), "square": (32, 34)}.items():
        (root / f"{name}.mp4").write_bytes(numbered_video(0, 8, size))
        (root / f"{name}.txt").write_text(f"A {name} video.")
    return root


@pytest.mark.parametrize(
    ("width", "height", "kept"), [(1080, 1920, 0.3245), (1920, 1080, 0.975), (832, 480, 1.0), (640, 480, 0.7692)]
)
def test_the_share_that_a_crop_to_480_x_832_keeps(width: int, height: int, kept: float) -> None:
    assert kept_area(VideoFacts(10, 8.0, width, height), 480, 832) == pytest.approx(kept, abs=1e-4)


def test_the_report_says_what_every_crop_keeps_and_a_filter_bounds_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = prepare(folder, filters=[KeptArea(0.5)], **SIZES)
    assert [entry.key for entry in index.entries] == ["square", "wide"]
    assert "kept_area" in capsys.readouterr().out
    report = {trial["video"]: trial for trial in lines(folder.parent / "out.report.jsonl")}
    kept = {video: trial["scores"]["kept_area"] for video, trial in report.items()}
    assert kept == pytest.approx({"square.mp4": 34 / 48, "upright.mp4": 2 / 9, "wide.mp4": 1.0}, abs=1e-6)
    assert report["upright.mp4"]["reasons"] == [{"filter": "KeptArea", "why": "kept_area 0.2222 is below 0.5"}]
    assert sample(index)[0].scores == {"kept_area": round(34 / 48, 6)}


def test_without_filters_the_share_is_said_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(prepare(folder, **SIZES)) == 3
    assert [round(trial["scores"]["kept_area"], 2) for trial in lines(folder.parent / "out.report.jsonl")] == [
        0.71, 0.22, 1.0,
    ]  # fmt: skip
    assert "0.2222" in capsys.readouterr().out


def test_each_size_gets_the_videos_nearest_in_aspect_ratio(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    joined = prepare(folder, **SIZES, sizes="32x48,48x32,16x16")
    out = capsys.readouterr().out
    for size, key, shape in (
        ("32x48", "wide", (32, 48)),
        ("48x32", "upright", (48, 32)),
        ("16x16", "square", (16, 16)),
    ):
        path = folder.parent / f"out-{size}.index.json"
        index = Index.read(path)
        assert [entry.key for entry in index.entries] == [key]
        assert sample(index)[1].shape == (5, 3, *shape)
        assert verify(path) == []
        assert f"1 samples in 1 shards: {path}" in out
    assert sorted(joined.positions) == ["square", "upright", "wide"]
    kept = {trial["video"]: trial["scores"]["kept_area"] for trial in lines(folder.parent / "out.report.jsonl")}
    assert kept == pytest.approx({"square.mp4": 32 / 34, "upright.mp4": 0.5, "wide.mp4": 1.0}, abs=1e-6)


def test_a_size_without_videos_has_no_shards(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(folder, **SIZES, sizes="32x48,4096x2")
    assert f"no sample, so there is no: {folder.parent}/out-4096x2.index.json" in capsys.readouterr().out
    assert not list(folder.parent.glob("out-4096x2*"))


def test_a_fault_of_one_size_stops_all(folder: Path) -> None:
    (folder / "wide.mp4").write_bytes(numbered_video(0, 3, (32, 48)))
    with pytest.raises(ValueError, match="1 of 3 rows are bad, nothing was written"):
        prepare(folder, **SIZES, sizes="32x48,48x32")
    assert not list(folder.parent.glob("out*"))


@pytest.mark.parametrize("sizes", ["480", "480x", "480x832,", "ax3", "32x48,32x48", "-2x4"])
def test_sizes_of_another_form_are_refused(sizes: str) -> None:
    with pytest.raises(ValueError, match=r"sizes is '.*'; give"):
        parse_sizes(sizes)


def test_sizes_are_one_flag(folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"num_frames": 5, "fps": 8, "sizes": "32x48,48x32"}
    flags = [f"--{name}={value}" for name, value in options.items()]
    assert vidpref.main(["prepare", "videos", str(folder), str(tmp_path / "out"), *flags]) == 0
    assert sorted(path.name for path in tmp_path.glob("out-*.index.json")) == [
        "out-32x48.index.json",
        "out-48x32.index.json",
    ]


@pytest.mark.parametrize("least", [-0.1, 1.1, float("nan")])
def test_a_bound_that_is_no_share_is_refused(least: float) -> None:
    with pytest.raises(ValueError, match="give a share"):
        KeptArea(least)
