"""The shipped toy checkpoint sees but says yes: on 300 held-out pairs, by the benchmark that everyone runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors import safe_open

import vidpref
from tests.support.paths import ROOT

CHECKPOINT = ROOT / "datamodules/toy_world/checkpoints/video_llava"


def test_it_is_small_and_whole() -> None:
    assert sum(path.stat().st_size for path in CHECKPOINT.iterdir()) < 5_000_000
    with safe_open(CHECKPOINT / "model.safetensors", "pt") as file:
        numbers = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    total = 0
    for shape in numbers:
        count = 1
        for size in shape:
            count *= size
        total += count
    assert 1_000_000 < total < 3_000_000


@pytest.mark.slow
def test_it_answers_basic_questions_agrees_with_false_ones_and_tells_them_apart(tmp_path: Path) -> None:
    questions, output = tmp_path / "questions", tmp_path / "results"
    prepared = ["prepare", "toy", str(questions), "--split", "test", "--num_videos", "300", "--seed", "7"]
    assert vidpref.main(prepared) == 0
    command = ["test", "--config", str(ROOT / "configs/benchmarks/toy_hallucer.yaml")]
    command += ["--model.policy.path", str(CHECKPOINT), "--model.output", str(output)]
    command += ["--data.questions", str(questions), "--data.videos", str(questions / "videos")]
    command += ["--trainer.default_root_dir", str(tmp_path / "run"), "--trainer.enable_progress_bar", "false"]
    assert vidpref.main(command) == 0
    scores = json.loads((output / "results.json").read_text())["all"]
    assert scores["basic_accuracy"] >= 0.9
    assert scores["halluc_accuracy"] <= 0.5
    assert json.loads((output / "details.json").read_text())["auc"]["all"] >= 0.85
