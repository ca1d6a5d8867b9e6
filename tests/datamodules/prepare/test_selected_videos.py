"""Which clips `prepare videos` chooses: filters, their report, and their settings in a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import vidpref
from callbacks.cli.verbs import prepare as prepare_verb
from datamodules.prepare.video_filters import Candidate, Cuts, Duration, Finding, Motion, VideoFilter
from datamodules.prepare.videos import prepare_videos
from datamodules.shards.index import Index
from datamodules.video.codec import encode_mp4
from tests.support.moving_clips import sliding
from tests.support.paths import ROOT
from tests.support.small_clips import lines, prepare, sample


class _Recording(VideoFilter):
    """Rejects captions with a word; remembers what it saw."""

    looks_at = "caption"

    def __init__(self, word: str) -> None:
        self.word = word
        self.seen: list[str] = []
        self.expected: list[str] = []

    def expect(self, captions: Any) -> None:
        self.expected += captions

    def judge(self, clip: Candidate) -> Finding:
        self.seen.append(clip.caption)
        return Finding({"length": float(len(clip.caption))}, "too dull" if self.word in clip.caption else None)


@pytest.fixture
def mixed_folder(tmp_path: Path) -> Path:
    """A short video, a still one, one with a cut, a dull one and a good one, 8 frames a second each."""
    root = tmp_path / "films"
    root.mkdir()
    cut = torch.cat([sliding(2, count=5), sliding(2, count=4, hue=1)])
    for name, frames in {
        "short": sliding(2, count=4),
        "still": sliding(0, count=9),
        "cut": cut,
        "dull": sliding(2, count=9),
        "good": sliding(2, count=9),
    }.items():
        (root / f"{name}.mp4").write_bytes(encode_mp4(frames, 8))
        (root / f"{name}.txt").write_text(f"A {name} video.")
    return root


def test_filters_choose_and_say_why(mixed_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording = _Recording("dull")
    index = prepare(mixed_folder, filters=[recording, Motion(), Cuts(), Duration(least=1)])
    assert [entry.key for entry in index.entries] == ["good"]
    report = {trial["video"]: trial for trial in lines(mixed_folder.parent / "out.report.jsonl")}
    assert {video: [reason["filter"] for reason in trial["reasons"]] for video, trial in report.items()} == {
        "cut.mp4": ["Cuts"],
        "dull.mp4": ["_Recording"],
        "good.mp4": [],
        "short.mp4": ["Duration"],
        "still.mp4": ["Motion"],
    }
    assert "duration 0.5 s is below 1 s" in report["short.mp4"]["reasons"][0]["why"]
    assert report["short.mp4"]["start"] is None
    assert set(report["short.mp4"]["scores"]) == {"kept_area", "duration"}
    assert [video for video, trial in report.items() if trial["kept"]] == ["good.mp4"]
    scores = sample(index)[0].scores
    assert scores == report["good.mp4"]["scores"]
    assert set(scores) == {"kept_area", "duration", "motion", "cuts", "cut_distance", "length"}
    # The most expensive filter comes last, sees what the others let through, and knew before what may come.
    assert recording.seen == ["A dull video.", "A good video."]
    assert recording.expected == [f"A {name} video." for name in ("cut", "dull", "good", "still")]
    table = capsys.readouterr().out
    assert "1 of 5 clips are kept" in table
    assert "rejected by Motion" in table


def test_a_cut_spares_the_flow(mixed_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[float] = []
    judge = Motion.judge

    def counted(self: Motion, clip: Candidate) -> Finding:
        finding = judge(self, clip)
        measured.append(finding.scores["motion"])
        return finding

    monkeypatch.setattr(Motion, "judge", counted)
    prepare(mixed_folder, filters=[Motion(), Cuts(), Duration(least=1)])
    report = {trial["video"]: trial for trial in lines(mixed_folder.parent / "out.report.jsonl")}
    assert len(measured) == 3  # of still, dull and good
    assert "motion" not in report["cut.mp4"]["scores"]
    assert "motion" in report["dull.mp4"]["scores"]


def test_a_faster_preset_gives_other_bytes_of_the_same_picture(mixed_folder: Path) -> None:
    usual, fast = (
        prepare(mixed_folder, lossless=False, skip_bad=True),
        prepare(mixed_folder, "fast", lossless=False, skip_bad=True, preset="veryfast"),
    )
    assert [entry.key for entry in usual.entries] == [entry.key for entry in fast.entries]
    assert usual.fingerprint != fast.fingerprint
    assert (sample(usual)[1].float() - sample(fast)[1].float()).abs().mean() < 2


class _Failing(VideoFilter):
    """Cannot judge captions with a word, or not begin at all."""

    looks_at = "caption"

    def __init__(self, word: str | None) -> None:
        self.word = word

    def prepare(self) -> None:
        if self.word is None:
            raise ValueError("no such weights")

    def judge(self, clip: Candidate) -> Finding:
        if self.word and self.word in clip.caption:
            raise ValueError("the judge refuses the caption")
        return Finding()


@pytest.mark.parametrize(
    ("word", "message"), [("good", "^the judge refuses the caption$"), (None, "^no such weights$")]
)
def test_what_a_filter_raises_is_no_fault_of_a_video(mixed_folder: Path, word: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(mixed_folder, skip_bad=True, filters=[_Failing(word)])
    # Nothing was written, so there is no report of what was kept either.
    assert not list(mixed_folder.parent.glob("out*"))


def test_filters_that_leave_nothing_leave_their_report(mixed_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="none of its 5 rows gives a sample"):
        prepare(mixed_folder, filters=[Duration(least=100)])
    assert len(lines(mixed_folder.parent / "out.report.jsonl")) == 5
    assert "0 of 5 clips are kept" in capsys.readouterr().out


def test_the_command_takes_a_configuration(mixed_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = prepare_verb.Prepare("datamodules.prepare.videos", "prepare_videos", "videos with captions")
    monkeypatch.setitem(prepare_verb.PREPARE, "videos", source)
    config = tmp_path / "config.yaml"
    text = (ROOT / "configs/dense_dpo/prepare_videos.yaml").read_text()
    for before, after in {
        "data/videos-480p/train": f"{tmp_path}/out",
        "data/videos]": f"{mixed_folder}]",
        "height: 480": "height: 32",
        "width: 832": "width: 48",
        "num_frames: 81": "num_frames: 9",
        "fps: 16": "fps: 8",
        "least: 5,": "least: 1,",
        "least: 480": "least: 32",
    }.items():
        assert before in text
        text = text.replace(before, after)
    config.write_text(text)
    assert vidpref.main(["prepare", "videos", "--config", str(config)]) == 0
    assert [entry.key for entry in Index.read(tmp_path / "out.index.json").entries] == ["dull", "good"]


def test_the_optional_filters_of_the_configuration_can_be_switched_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:9/v1")
    monkeypatch.setenv("OPENAI_MODEL", "none")
    text = (ROOT / "configs/dense_dpo/prepare_videos.yaml").read_text()
    before, _, filters = text.partition("filters:\n")
    config = tmp_path / "config.yaml"
    config.write_text(f"{before}filters:\n" + filters.replace("  # - ", "  - ").replace("  #   ", "    "))
    parser = prepare_verb.prepare_parser("videos", prepare_videos)
    options = parser.instantiate(parser.parse_args(["--config", str(config)]))
    names = [type(criterion).__name__ for criterion in options["filters"]]
    assert names == ["Duration", "Resolution", "KeptArea", "Motion", "Cuts", "Aesthetic", "DynamicCaption"]
    assert type(options["filters"][6].asked).__name__ == "EndpointJudge"
    monkeypatch.delenv("OPENAI_MODEL")
    with pytest.raises(ValueError, match="set OPENAI_MODEL in the environment"):
        parser.instantiate(parser.parse_args(["--config", str(config)]))
