"""`vidpref check` of the verbs that train nothing: every fault at once, and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import vidpref
from callbacks.pass_check import output_faults
from datamodules.schemas import write_shards
from datamodules.video.codec import encode_mp4
from tests.support.annotated_videos import annotated
from tests.support.judged_pairs import write_judged_pairs
from tests.support.paths import ROOT
from tests.support.predict_fakes import MemoryVideos
from tests.support.qa_world import write_json, write_video
from tests.support.tiny_wan import random_video

WAN = ROOT / "datamodules/toy_world/checkpoints/wan"
LLAVA = ROOT / "datamodules/toy_world/checkpoints/video_llava"
JUDGE = "lightning_modules.judges.recorded.RecordedJudge"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def check(verb: str, config: str, *flags: str) -> int:
    return vidpref.main(["check", verb, "--config", str(ROOT / "configs" / config), *flags])


def contents() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(Path().rglob("*")) if path.is_file()}


def pairs_flags(output: str = "out/pairs") -> list[str]:
    return [
        *("--model.policy.path", str(WAN), "--data.predict", "videos.index.json"),
        *("--trainer.callbacks.output", output, "--trainer.default_root_dir", "out"),
    ]


def write_videos() -> None:
    source = MemoryVideos({f"v{number}": random_video(5, 16, 16, seed=number) for number in range(2)})
    samples = (
        (key, {"mp4": encode_mp4(frames, 8.0), "json": json.dumps(source.row(key).to_json()).encode()})
        for key, frames in source.videos.items()
    )
    write_shards(samples, "videos", "vidpref/videos")


def test_a_predict_pass_without_faults_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    write_videos()
    before = contents()
    assert check("predict", "dense_dpo/guided_pairs.yaml", *pairs_flags()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "predict: 2 samples" in lines
    assert "writes out/pairs.parts" in lines
    assert lines[-1] == "no faults: this run can start"
    assert contents() == before


def test_all_faults_of_a_predict_pass_are_in_one_list(capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").write_text("a file where a folder is meant")
    assert check("predict", "dense_dpo/guided_pairs.yaml", *pairs_flags("taken/pairs")) == 1
    message = capsys.readouterr().err
    assert "2 faults:" in message
    assert "videos.index.json: no such index" in message
    assert "ShardWriter's output: taken is no folder" in message
    flags = [*pairs_flags(), "--model.policy.path", "absent"]
    assert check("predict", "dense_dpo/guided_pairs.yaml", *flags) == 1
    message = capsys.readouterr().err
    assert "2 faults:" in message
    assert "videos.index.json: no such index" in message
    assert "no model_index.json at 'absent'" in message


def test_predictions_that_nobody_would_write_are_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    write_videos()
    flags = [*pairs_flags()[:4], "--trainer.callbacks", "[]"]
    assert check("predict", "dense_dpo/guided_pairs.yaml", *flags) == 1
    assert "nothing would write what GuidedSampler predicts" in capsys.readouterr().err


def test_recorded_replies_are_read(capsys: pytest.CaptureFixture[str]) -> None:
    write_judged_pairs(Path(), 2)
    Path("replies.jsonl").write_text('{"key": "p00"}\n')
    flags = ["--model.judge", JUDGE, "--model.judge.replies", "replies.jsonl", "--model.replies", "log/new.jsonl"]
    flags += ["--data.predict", "pairs.index.json", "--trainer.callbacks.output", "labels"]
    before = contents()
    assert check("predict", "dense_dpo/segment_labels.yaml", *flags) == 1
    assert 'replies.jsonl: line 1 lacks "key" or "reply"' in capsys.readouterr().err
    assert contents() == before
    Path("replies.jsonl").write_text('{"key": "p00", "reply": "first"}\n')
    before = contents()
    assert check("predict", "dense_dpo/segment_labels.yaml", *flags) == 0
    assert contents() == before


def test_texts_of_a_cache_are_read_through_the_policys_tokenizer(capsys: pytest.CaptureFixture[str]) -> None:
    row, members = annotated("long")
    row_json = json.loads(members["json"]) | {"chosen": "red " * 600}
    write_shards([(row.key, members | {"json": json.dumps(row_json).encode()})], "train")
    flags = ["--config", str(ROOT / "configs/reference/write_cache.yaml"), "--model.policy.path", str(LLAVA)]
    flags += ["--data.predict", "train.index.json", "--trainer.callbacks.output", "cache"]
    assert check("predict", "toy/vista.yaml", *flags) == 1
    assert "sample 'long'" in capsys.readouterr().err


def test_a_benchmarks_questions_videos_and_judge_are_checked_and_its_answers_stay(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_json(Path("test_q.json"), [{"video_name": "lamp", "question": "is it on", "question_id": "v_lamp_1"}])
    write_json(Path("test_a.json"), [{"answer": "yes", "type": 3, "question_id": "v_lamp_1"}])
    Path("videos").mkdir()
    Path("out").mkdir()
    Path("out/answers.jsonl").write_text('{"key": "of an earlier run"}\n')
    flags = [
        *("--model.policy.path", str(LLAVA), "--model.policy.num_frames", "4", "--model.output", "out"),
        *("--model.judge", JUDGE, "--model.judge.replies", "absent.jsonl", "--model.fresh", "true"),
        *("--data.questions", "test_q.json", "--data.answers", "test_a.json", "--data.num_questions", "1"),
        *("--data.videos", "videos", "--data.num_frames", "4"),
    ]
    before = contents()
    assert check("test", "benchmarks/activitynet_qa.yaml", *flags) == 1
    message = capsys.readouterr().err
    assert "2 faults:" in message
    assert "1 videos are missing from videos" in message
    assert "absent.jsonl: no such file of replies" in message
    write_video(Path("videos/v_lamp.mp4"), 200)
    Path("absent.jsonl").write_text('{"key": "activitynet_qa/v_lamp_1", "reply": "yes"}\n')
    before = contents()
    assert check("test", "benchmarks/activitynet_qa.yaml", *flags) == 0
    assert "writes out, where something is already" in capsys.readouterr().out
    assert contents() == before, "nothing is begun, also with fresh"


def test_a_configuration_that_trains_nothing_is_no_fit(capsys: pytest.CaptureFixture[str]) -> None:
    write_videos()
    arguments = ["check", "--config", str(ROOT / "configs/dense_dpo/guided_pairs.yaml"), *pairs_flags()]
    assert vidpref.main(arguments) == 1
    message = capsys.readouterr().err
    assert (
        "1 fault:\n- GuidedSampler has nothing to train; for another verb than fit name it: `vidpref check" in message
    )


def test_a_place_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("folder").mkdir()
    Path("folder/file").touch()
    assert output_faults("here", Path("folder/file")) == []
    assert output_faults("here", Path("folder/new/deep")) == []
    assert "folder/file is no folder" in output_faults("here", Path("folder/file/new"))[0]
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert output_faults("here", Path("folder/new")) == [
        "here: folder cannot be written; change its permissions, or choose another place"
    ]
