"""Pairs in, label shards out: agreement of both orders, and judges that go away."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import LightningDataModule

from datamodules.dense.pair_labels import join_labels
from datamodules.shards.index import Index
from lightning_modules.judges.base import JudgeQuestion, JudgeStoppedError
from lightning_modules.judges.recorded import RecordedJudge
from lightning_modules.predict.segment_judge import SegmentJudge
from tests.support.flow_shards import LABELS, write_pairs
from tests.support.judged_pairs import BrightnessJudge, read_labels, truth
from tests.support.quiet_trainer import quiet_trainer
from tests.support.segment_judge_runs import label


def test_labels_are_the_truth_and_fit_the_pairs(pairs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judge = BrightnessJudge()
    module = label(pairs, tmp_path / "labels", judge, {"batch_size": 2})
    rows = read_labels(tmp_path / "labels.index.json")
    assert list(rows) == [f"p{number:02d}" for number in range(5)]
    assert [row.labels for row in rows.values()] == list(LABELS[:5])
    assert rows["p02"].verdicts == (("second", "first"), ("tie", "tie"), ("first", "second"))
    assert {(row.frames_per_segment, row.judge, row.unparsed, row.whole) for row in rows.values()} == {
        (4, "brightness", 0, None)
    }
    index, source = Index.read(tmp_path / "labels.index.json"), Index.read(pairs)
    made_from = {"fingerprint": source.fingerprint, "judge": "brightness", "frames_per_segment": 4}
    assert index.made_from.items() >= made_from.items()
    assert join_labels([source], [index]).faults() == []
    assert len(judge.asked) == 5 * 3 * 2
    printed = capsys.readouterr().out
    assert (
        "5 pairs labelled in this run, 15 labels: 4 for the first video, 4 for the second, 7 ties (0 because" in printed
    )
    assert "0 of 30 replies could not be read" in printed
    assert module.tally.shown_first == module.tally.shown_second == 8


def test_a_judge_with_a_taste_for_the_first_says_nothing(pairs: str, tmp_path: Path) -> None:
    module = label(pairs, tmp_path / "labels", BrightnessJudge(lambda question, number: '{"verdict": "first"}'))
    rows = read_labels(tmp_path / "labels.index.json")
    assert {row.labels for row in rows.values()} == {(0, 0, 0)}
    assert rows["p00"].verdicts == (("first", "first"),) * 3
    assert (module.tally.disagreements, module.tally.shown_first, module.tally.shown_second) == (15, 30, 0)


def test_whole_videos_get_one_label(pairs: str, tmp_path: Path) -> None:
    judge = BrightnessJudge()
    label(pairs, tmp_path / "labels", judge, granularity="whole")
    rows = read_labels(tmp_path / "labels.index.json")
    # (1, 1, 0), (0, 0, 0), (-1, 0, 1) with a longer last segment, (-1, -1, -1), (0, 1, 0)
    assert [row.whole for row in rows.values()] == [1, 0, 0, -1, 1]
    assert {(row.labels, row.frames_per_segment) for row in rows.values()} == {((w,), 13) for w in (1, 0, -1)}
    assert len(judge.asked) == 10
    index = Index.read(tmp_path / "labels.index.json")
    assert join_labels([Index.read(pairs)], [index]).faults() == []


def test_a_judge_that_stays_away_costs_no_label(pairs: str, tmp_path: Path) -> None:
    def away(question: JudgeQuestion, number: int) -> str | None:
        if number > 14:
            raise JudgeStoppedError("the judge is out. Run the same command again to continue")
        return None

    with pytest.raises(JudgeStoppedError, match=r"is out\. Run the same.*\. The labels of the 2 pairs that"):
        label(pairs, tmp_path / "labels", BrightnessJudge(away))
    assert not (tmp_path / "labels.index.json").exists()
    back = BrightnessJudge()
    label(pairs, tmp_path / "labels", back)
    assert {question.key for question in back.asked} == {"p02", "p03", "p04"}
    assert [row.labels for row in read_labels(tmp_path / "labels.index.json").values()] == list(LABELS[:5])


def test_labels_of_another_judge_are_not_continued(pairs: str, tmp_path: Path) -> None:
    label(pairs, tmp_path / "labels", BrightnessJudge())
    other = BrightnessJudge()
    other.name = "someone-else"  # type: ignore[misc]
    with pytest.raises(ValueError, match=r'judge was "brightness", is "someone-else"'):
        label(pairs, tmp_path / "labels", other)
    assert not other.asked


def test_labels_of_a_local_judge_depend_on_its_files(pairs: str, tmp_path: Path) -> None:
    class Local(BrightnessJudge):
        path = ""

    weights = tmp_path / "judge" / "model.safetensors"
    weights.parent.mkdir()
    for content in (b"one", b"two"):
        weights.write_bytes(content)
        judge = Local()
        judge.path = str(weights.parent)
        if content == b"one":
            label(pairs, tmp_path / "labels", judge)
        else:
            with pytest.raises(ValueError, match=r"the files that judge_settings\.path names have been replaced"):
                label(pairs, tmp_path / "labels", judge)


def test_recorded_replies_make_the_same_labels(pairs: str, tmp_path: Path) -> None:
    spoil = BrightnessJudge(lambda question, number: "hm" if number % 7 == 0 else None)
    label(pairs, tmp_path / "live", spoil, replies=str(tmp_path / "replies.jsonl"))
    label(pairs, tmp_path / "again", RecordedJudge(str(tmp_path / "replies.jsonl"), "brightness"))
    assert read_labels(tmp_path / "live.index.json") == read_labels(tmp_path / "again.index.json")


def test_the_cost_of_what_is_left_is_told_before_it_starts(
    pairs: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Costly(BrightnessJudge):
        def estimate(self, work: Any) -> str:
            assert not self.asked
            return f"{work.questions} questions, {work.attempts} times"

        def summary(self) -> str:
            return f"spent {len(self.asked)}"

    label(pairs, tmp_path / "labels", Costly(), {"limit": 2})
    assert "12 questions, 2 times\n" in (printed := capsys.readouterr().out)
    assert printed.endswith("spent 12\n")
    assert list(read_labels(tmp_path / "labels.index.json")) == ["p00", "p01"]


def test_faults_are_found_before_anything_is_asked(pairs: str, tmp_path: Path) -> None:
    judge = BrightnessJudge()
    with pytest.raises(ValueError, match=r"pair 'p00', 0\.25 s at 4 fps"):
        label(pairs, tmp_path / "labels", judge, segment_seconds=0.25)
    nan = {"segment_seconds": float("nan")}
    for settings in ({"segment_seconds": 0}, nan, {"frames_per_second": -1.0}, {"attempts": 0}, {"frame_side": 0}):
        with pytest.raises(ValueError, match="must be"):
            SegmentJudge(judge, **settings)  # type: ignore[arg-type]
    module = SegmentJudge(judge)
    module._trainer = quiet_trainer()
    module.trainer.datamodule = LightningDataModule()  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="shown pairs by PairVideos, not by LightningDataModule"):
        module.setup("predict")
    assert not judge.asked


def test_undecodable_pairs_are_named(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path, 2)  # their mp4 files are placeholders
    with pytest.raises(ValueError, match=r"pairs-000000\.tar: sample 'p00': undecodable"):
        label(pairs, tmp_path / "labels", BrightnessJudge())


def test_replies_of_a_truthful_judge_are_json() -> None:
    assert set(json.loads(truth(JudgeQuestion("?", [*_grey(90), *_grey(190)])))) == {"reason", "verdict"}


def _grey(value: int) -> list[Any]:
    import torch

    return [torch.full((3, 4, 4), value, dtype=torch.uint8)] * 2


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("folder", "model.replies: .*replies.jsonl is not a regular file but a folder"),
        ("pipe", "model.replies: .*replies.jsonl is not a regular file but a named pipe"),
        ("below a file", "model.replies: .*replies.jsonl cannot be written and read .*; give another file"),
        ("torn", r"model.replies: .*replies.jsonl: line 2 is not JSON (.|\n)*Take these lines out, or give another"),
        ("other", 'model.replies: .*replies.jsonl: line 1 lacks "key" or "reply"'),
    ],
)
def test_the_log_of_replies_is_tried_before_anything_is_asked(
    pairs: str, tmp_path: Path, kind: str, message: str
) -> None:
    log = tmp_path / "logs" / "replies.jsonl"
    log.parent.mkdir()
    whole = '{"key": "p00", "reply": "first"}\n'
    if kind == "folder":
        log.mkdir()
    elif kind == "pipe":
        os.mkfifo(log)
    elif kind == "below a file":
        log.parent.rmdir()
        log.parent.write_text("")
    else:
        log.write_text(f'{whole}{{"key": "p0' if kind == "torn" else '{"question": "p00"}\n')
    judge = BrightnessJudge()
    with pytest.raises(ValueError, match=message):
        label(pairs, tmp_path / "labels", judge, replies=str(log))
    assert judge.asked == []


def test_a_log_of_replies_that_is_sound_is_added_to(pairs: str, tmp_path: Path) -> None:
    log = tmp_path / "logs" / "replies.jsonl"
    log.parent.mkdir()
    whole = '{"key": "before", "reply": "first"}\n'
    log.write_text(whole)
    label(pairs, tmp_path / "labels", BrightnessJudge(), replies=str(log))
    assert log.read_text().startswith(whole)
    assert len(log.read_text().splitlines()) == 31
