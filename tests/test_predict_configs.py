"""The variations that the headers of the sampling configurations promise."""

from __future__ import annotations

from typing import Any

import pytest

from callbacks.cli.parse_line import ParseLine
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
