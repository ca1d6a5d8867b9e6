"""The variations that the headers of the sampling configurations promise."""

from __future__ import annotations

from typing import Any

import pytest
from lightning.pytorch import Callback

from callbacks.cli.parse_line import ParseLine
from callbacks.cli.predict_part import hand_over
from callbacks.writers.video_folder import VideoFolderWriter
from tests.test_configs import CONFIGS

ADAPTIVE = '{"class_path": "MotionAdaptiveEta", "init_args": {"flow": {"class_path": "DisFlow"}}}'


def parse(name: str, *flags: str) -> Any:
    return ParseLine(["predict", "--config", str(CONFIGS / f"dense_dpo/{name}.yaml"), *flags]).config.predict


def test_vanilla_pairs_by_two_flags() -> None:
    config = parse("guided_pairs", "--model.eta", "1.0", "--trainer.callbacks.ShardWriter.output", "data/vanilla")
    assert config.model.init_args.eta == 1.0
    assert [callback.init_args.output for callback in config.trainer.callbacks] == ["data/vanilla"]


def test_eta_by_motion() -> None:
    eta = parse("guided_pairs", f"--model.eta={ADAPTIVE}").model.init_args.eta
    assert eta.class_path == "lightning_modules.predict.noise_level.MotionAdaptiveEta"
    assert (eta.init_args.slow, eta.init_args.fast) == (0.85, 0.65)


def test_samples_of_an_adapter() -> None:
    flags = [
        "--model.policy.adapter",
        "exports/last",
        "--trainer.callbacks.VideoFolderWriter.folder",
        "runs/samples/dense",
    ]
    config = parse("sample", "--data.file", "mine.txt", *flags)
    assert config.model.init_args.policy.init_args.adapter == "exports/last"
    assert config.data.init_args.file == "mine.txt"
    assert [callback.init_args.folder for callback in config.trainer.callbacks] == ["runs/samples/dense"]


def test_annotation_by_other_checkpoints_and_a_judge() -> None:
    flags = ["--model.scorer.path", "mine", "--model.wrong_answers", "JudgedAnswers", "--model.wrong_answers.judge"]
    flags += ["EndpointJudge", "--model.wrong_answers.judge.cache", "cache", "--model.detector", "null"]
    config = ParseLine(["predict", "--config", str(CONFIGS / "vista_dpo/annotate.yaml"), *flags]).config.predict
    model = config.model.init_args
    assert model.detector is None
    assert model.scorer.init_args.path == "mine"
    assert model.wrong_answers.init_args.judge.class_path.endswith(".EndpointJudge")


def test_a_detector_of_another_class_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--model.detector.class_path", "FrameTextScorer"]
    with pytest.raises(SystemExit):
        ParseLine(["predict", "--config", str(CONFIGS / "vista_dpo/annotate.yaml"), *flags])
    assert "detector" in capsys.readouterr().err


def test_a_part_has_logs_and_replies_of_its_own() -> None:
    """Parts on several machines would write over each other's."""
    output = ["--model.replies=data/train.replies.jsonl", "--trainer.default_root_dir=runs/labels"]
    config = parse("segment_labels", "--part", "3/8", *output)
    assert config.trainer.default_root_dir == "runs/labels/part3of8"
    assert config.model.init_args.replies == "data/train.replies.part3of8.jsonl"
    whole = parse("segment_labels", *output)
    assert (whole.part, whole.trainer.default_root_dir) == (None, "runs/labels")
    assert whole.model.init_args.replies == "data/train.replies.jsonl"
    with pytest.raises(ValueError, match="part is '9/8'; give its number from 1 and how many there are, as 2/8"):
        parse("segment_labels", "--part=9/8")


def test_the_writers_make_the_part_that_the_command_names() -> None:
    writer, other = VideoFolderWriter("videos"), Callback()
    hand_over({"part": "3/8"}, [other, writer])
    assert str(writer.part) == "3/8"
    assert not hasattr(other, "part")
    whole = VideoFolderWriter("videos")
    hand_over({"part": None}, [whole])
    assert whole.part is None
