import copy
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from torch import Tensor, nn

from benchmarks.predictions import Predictions
from benchmarks.video_hallucer import VideoHallucer, score
from datamodules.questions import Questions
from datamodules.samples import AnswerScores, View
from datamodules.video_io import encode_mp4

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "bench_videohallucer.json").read_text())


def golden_subsets() -> Predictions:
    pairs, found = iter(GOLDEN["pairs"]), {}
    for subset in GOLDEN["subset_order"]:
        found[subset] = [next(pairs) for _ in range(GOLDEN["subsets"][subset])]
    return found


def test_scores_are_the_published_scorers() -> None:
    assert score(golden_subsets()) == GOLDEN["multi_subset"]
    assert score({"one": GOLDEN["pairs"]})["one"] == GOLDEN["scores_single_set"]


def pair_of(basic: str, hallucinated: str) -> dict[str, Any]:
    return {
        "basic": {"video": "a.mp4", "question": "?", "answer": "yes", "predict": basic},
        "hallucination": {"video": "a.mp4", "question": "?", "answer": "no", "predict": hallucinated},
    }


def test_scoring_refuses_what_it_cannot_score() -> None:
    with pytest.raises(ValueError, match="at least one subset"):
        score({})
    with pytest.raises(ValueError, match="temporal has no pairs"):
        score({"temporal": []})
    lacking = pair_of("Yes.", "No.")
    del lacking["hallucination"]["predict"]
    with pytest.raises(ValueError, match=r"temporal.*1\.hallucination"):
        score({"temporal": [pair_of("Yes.", "No."), lacking]})


class Scripted(nn.Module):
    """A policy that says yes when the video is bright or the question asks whether something is there."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded = 0

    def load(self) -> None:
        self.loaded += 1

    def generate(self, prompts: Sequence[str], frames: Sequence[Tensor], max_new_tokens: int) -> list[str]:
        assert len(prompts) == len(frames)
        return ["Yes." if "there" in prompt else "No, it is not." for prompt in prompts]

    def encode(self, views: Sequence[View]) -> Sequence[View]:
        return views

    def score(self, encoded: Sequence[View]) -> AnswerScores:
        logs = [
            float(view.frames.float().mean() / 10 - 25 * ("absent" in view.prompt)) * (answer == "Yes.")
            for view in encoded
            for answer in view.answers.values()
        ]
        assert [tuple(view.answers.values()) for view in encoded] == [("Yes.", "No.")] * len(encoded)
        return AnswerScores(torch.tensor(logs), torch.ones(len(logs), dtype=torch.long))


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Subset temporal: one bright and one dark pair; subset detail: a question that the script gets wrong."""

    def question(video: str, text: str, answer: str) -> dict[str, str]:
        return {"video": video, "question": text, "answer": answer}

    there = "Is it there?"
    temporal = [
        {
            "basic": question(name, there, "yes"),
            "hallucination": question(name, "Is it absent?", "no"),
            "type": "x",
        }
        for name in ("bright.mp4", "dark.mp4")
    ]
    detail = [{"basic": question("bright.mp4", there, "yes"),
               "hallucination": question("dark.mp4", there, "no")}]  # fmt: skip
    (tmp_path / "questions").mkdir()
    for name, pairs in (("temporal", temporal), ("semantic_detail", detail)):
        (tmp_path / "questions" / f"{name}.json").write_text(json.dumps(pairs))
    (tmp_path / "videos").mkdir()
    for name, value in (("bright", 200), ("dark", 20)):
        frames = np.full((4, 16, 16, 3), value, np.uint8)
        (tmp_path / "videos" / f"{name}.mp4").write_bytes(encode_mp4(frames, fps=4.0))
    return tmp_path


def run_test(module: VideoHallucer, world: Path, **options: Any) -> list[Mapping[str, float]]:
    data = {"questions": str(world / "questions"), "videos": str(world / "videos"), "num_frames": 2, "batch_size": 4}
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    return trainer.test(module, Questions(**(data | options)), verbose=False)


def test_a_policy_is_scored_and_the_published_files_are_written(world: Path) -> None:
    seed_everything(7, verbose=False)
    policy = Scripted()
    (logged,) = run_test(VideoHallucer(policy, str(world / "out"), name="scripted", margins=True), world)
    results = json.loads((world / "out" / "results.json").read_text())
    right, half = (1.0, 1.0, 1.0), (1.0, 0.0, 0.0)
    names = ("basic_accuracy", "halluc_accuracy", "accuracy")
    assert results == {
        "semantic": dict(zip(names, half, strict=True)),
        "temporal": dict(zip(names, right, strict=True)),
        "all": dict(zip(names, (1.0, 0.5, 0.5), strict=True)),
    }
    assert policy.loaded == 1
    assert logged["test/basic"] == 1.0
    assert logged["test/hallucinated"] == logged["test/overall"] == 0.5

    predictions = json.loads((world / "out" / "temporal_scripted.json").read_text())
    assert [pair["hallucination"]["predict"] for pair in predictions] == ["No, it is not."] * 2
    assert predictions[0]["type"] == "x"
    assert predictions[0]["basic"]["margin"] == pytest.approx(20, abs=0.5)
    assert score({"temporal": predictions})["temporal"] == results["temporal"]

    details = json.loads((world / "out" / "details.json").read_text())
    assert details["seed"] == 7
    assert details["versions"]["torch"] == torch.__version__
    assert details["annotations"]["temporal"]["pairs"] == details["annotations"]["temporal"]["scored"] == 2
    assert details["bias"]["all"]["n"] == 6
    assert details["auc"]["semantic"] == 1.0
    assert details["skipped"] == {}
    assert not list((world / "out").glob("*.tmp*"))


def test_a_second_test_starts_afresh(world: Path) -> None:
    module = VideoHallucer(Scripted(), str(world / "out"))
    first = run_test(module, world)
    assert run_test(module, world, subsets=["temporal"]) != first
    assert set(json.loads((world / "out" / "results.json").read_text())) == {"temporal", "all"}


def test_missing_videos_stop_before_weights_are_loaded(world: Path) -> None:
    (world / "videos" / "dark.mp4").unlink()
    policy = Scripted()
    with pytest.raises(ValueError, match=r"dark\.mp4"):
        run_test(VideoHallucer(policy, str(world / "out")), world)
    assert policy.loaded == 0


@pytest.mark.parametrize("damage", ["missing", "undecodable"])
def test_pairs_without_both_videos_are_left_out_and_named(world: Path, damage: str) -> None:
    dark = world / "videos" / "dark.mp4"
    dark.unlink() if damage == "missing" else dark.write_bytes(b"noise")
    run_test(VideoHallucer(Scripted(), str(world / "out")), world, allow_missing=True)
    results = json.loads((world / "out" / "results.json").read_text())
    details = json.loads((world / "out" / "details.json").read_text())
    assert set(results) == {"temporal", "all"}
    assert details["annotations"]["temporal"]["scored"] == 1
    assert details["annotations"]["semantic"]["scored"] == 0
    assert set(details["skipped"]) == {
        "semantic/000000/hallucination", "temporal/000001/basic", "temporal/000001/hallucination",
    }  # fmt: skip
    assert all("dark.mp4" in why for why in details["skipped"].values())


def test_recorded_predictions_score_alike_without_videos(world: Path) -> None:
    run_test(VideoHallucer(Scripted(), str(world / "out"), name="scripted"), world)
    again = VideoHallucer(None, str(world / "again"), predictions=str(world / "out"), name="scripted")
    run_test(again, world, videos=None)
    first, second = (json.loads((world / folder / "results.json").read_text()) for folder in ("out", "again"))
    assert first == second


def test_recorded_predictions_of_other_questions_are_refused(world: Path) -> None:
    run_test(VideoHallucer(Scripted(), str(world / "out"), name="scripted"), world)
    path = world / "out" / "temporal_scripted.json"
    predictions = json.loads(path.read_text())
    predictions[1]["basic"]["question"] = "Was it there?"
    path.write_text(json.dumps(predictions))
    again = VideoHallucer(None, str(world / "again"), predictions=str(world / "out"), name="scripted")
    with pytest.raises(ValueError, match=r"1 questions lack an answer .* temporal/000001/basic"):
        run_test(again, world, videos=None)
    run_test(again, world, videos=None, allow_missing=True)
    details = json.loads((world / "again" / "details.json").read_text())
    assert details["skipped"] == {"temporal/000001/basic": "no recorded answer"}


def test_exactly_one_source_of_answers() -> None:
    with pytest.raises(ValueError, match="one of the two"):
        VideoHallucer(None, "out")
    with pytest.raises(ValueError, match="one of the two"):
        VideoHallucer(Scripted(), "out", predictions="recorded")
    with pytest.raises(ValueError, match="margins need a policy"):
        VideoHallucer(None, "out", predictions="recorded", margins=True)


def test_a_policy_without_videos_is_refused(world: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.videos"):
        run_test(VideoHallucer(Scripted(), str(world / "out")), world, videos=None)


RANKS = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from lightning.pytorch import Trainer
from benchmarks.video_hallucer import VideoHallucer
from datamodules.questions import Questions
from test_video_hallucer import Scripted
world = Path({world!r})
trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_progress_bar=False,
                  enable_model_summary=False, enable_checkpointing=False)
data = Questions(str(world / "questions"), str(world / "videos"), num_frames=2, batch_size=2)
trainer.test(VideoHallucer(Scripted(), str(world / "two"), margins=True), data, verbose=False)
"""


@pytest.mark.slow
def test_two_processes_write_what_one_writes(world: Path) -> None:
    run_test(VideoHallucer(Scripted(), str(world / "one"), margins=True), world)
    script = world / "ranks.py"
    script.write_text(RANKS.format(tests=str(Path(__file__).parent), world=str(world)))
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, str(script)], check=True, timeout=300, env=environment, cwd=world)
    for file in ("results.json", "temporal_policy.json", "semantic_policy.json"):
        assert json.loads((world / "two" / file).read_text()) == json.loads((world / "one" / file).read_text())


def test_scoring_leaves_the_predictions_alone() -> None:
    predictions = golden_subsets()
    before = copy.deepcopy(predictions)
    score(predictions)
    assert predictions == before
