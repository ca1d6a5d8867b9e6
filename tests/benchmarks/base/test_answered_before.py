"""Answers that were given before: interrupted and finished tests, other settings, files made elsewhere, processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from benchmarks.video_hallucer.module import VideoHallucer
from datamodules.questions.video_hallucer import VideoHallucerQuestions
from datamodules.video.codec import encode_mp4
from tests.support.hallucer_world import Scripted, results_of, run_test, world
from tests.support.paths import DATA, ROOT
from tests.support.tiny_video_llava import save_tiny_video_llava

__all__ = ["world"]


def test_a_second_test_starts_afresh(world: Path) -> None:
    module = VideoHallucer(Scripted(), str(world / "out"))
    first = run_test(module, world)
    assert run_test(module, world, subsets=["temporal"]) != first
    assert set(json.loads((world / "out" / "results.json").read_text())) == {"temporal", "all", "about"}


def test_a_finished_test_is_scored_again_without_the_model(world: Path) -> None:
    run_test(VideoHallucer(Scripted(), str(world / "out"), margins=True), world)
    first, details = results_of(world / "out"), json.loads((world / "out" / "details.json").read_text())
    policy = Scripted()
    run_test(VideoHallucer(policy, str(world / "out"), margins=True), world)
    assert policy._loaded == 0
    assert not policy._asked
    assert results_of(world / "out") == first
    assert json.loads((world / "out" / "details.json").read_text())["auc"] == details["auc"]


def test_questions_that_a_policy_cannot_take_are_named_before_it_loads(world: Path) -> None:
    class Strict(Scripted):
        def prompt_length(self, prompt: str, where: str) -> int:
            if "absent" in prompt:
                raise ValueError(f"{where}: holds the video token")
            return 3

    policy = Strict()
    with pytest.raises(ValueError, match=r"questions cannot be asked:\n  question '.*': holds the video token"):
        run_test(VideoHallucer(policy, str(world / "out")), world)
    assert policy._loaded == 0


def test_an_interrupted_test_asks_only_what_is_left(world: Path) -> None:
    class Broken(Scripted):
        def generate(
            self,
            prompts: Sequence[str],
            frames: Sequence[Tensor],
            max_new_tokens: int,
            answer_start: str = "",
            times: Sequence[Tensor] | None = None,
        ) -> list[str]:
            if self._asked:
                raise OSError("the power went out")
            return super().generate(prompts, frames, max_new_tokens)

    Broken.__qualname__ = Scripted.__qualname__
    with pytest.raises(OSError, match="power"):
        run_test(VideoHallucer(Broken(), str(world / "out")), world)
    assert not (world / "out" / "results.json").exists()
    policy = Scripted()
    run_test(VideoHallucer(policy, str(world / "out")), world)
    assert len(policy._asked) == 2, "four of six questions had been answered"
    run_test(VideoHallucer(Scripted(), str(world / "whole")), world)
    assert results_of(world / "out") == results_of(world / "whole")
    assert len((world / "out" / "answers.jsonl").read_text().splitlines()) == 6


def test_other_settings_are_not_mixed_unless_it_begins_afresh(world: Path) -> None:
    run_test(VideoHallucer(Scripted(), str(world / "out")), world)
    policy = Scripted()
    with pytest.raises(ValueError, match="max_new_tokens was 32, is 8"):
        run_test(VideoHallucer(policy, str(world / "out"), max_new_tokens=8), world)
    assert policy._loaded == 0
    run_test(VideoHallucer(policy, str(world / "out"), max_new_tokens=8, fresh=True), world)
    assert len(policy._asked) == 6


def test_answers_to_another_version_of_the_questions_are_listed_before_loading(world: Path) -> None:
    run_test(VideoHallucer(Scripted(), str(world / "out")), world)
    path = world / "questions" / "temporal.json"
    path.write_text(path.read_text().replace("Is it absent?", "Is it gone?"))
    policy = Scripted()
    with pytest.raises(ValueError, match=r"2 answers in .*other questions") as error:
        run_test(VideoHallucer(policy, str(world / "out")), world)
    assert all(f"temporal/00000{pair}/hallucination" in str(error.value) for pair in (0, 1))
    assert policy._loaded == 0


def test_both_ways_of_recorded_answers_score_alike(world: Path) -> None:
    run_test(VideoHallucer(Scripted(), str(world / "out")), world)
    for number, source in enumerate(("out", "out/answers.jsonl")):
        again = VideoHallucer(None, str(world / f"again{number}"), predictions=str(world / source))
        run_test(again, world, videos=None)
        assert results_of(world / f"again{number}")["all"] == results_of(world / "out")["all"]


def test_predictions_for_the_longer_temporal_version_are_refused(world: Path) -> None:
    """The published file without duplicates, answers to the one with them: every doubled question is named."""
    run_test(VideoHallucer(Scripted(), str(world / "out")), world)
    path = world / "out" / "temporal_policy.json"
    pairs = json.loads(path.read_text())
    again_but_other = {**pairs[0], "basic": {**pairs[0]["basic"], "predict": "No."}}
    path.write_text(json.dumps([*pairs, again_but_other]))
    again = VideoHallucer(None, str(world / "again"), predictions=str(world / "out"))
    with pytest.raises(ValueError, match="another version") as error:
        run_test(again, world, videos=None)
    assert "2 questions are answered more than once" in str(error.value)
    assert "temporal/000000/basic" in str(error.value)
    run_test(again, world, videos=None, allow_missing=True)
    about = results_of(world / "again")["about"]
    assert about["left_out"] == 1, "the other half was answered alike both times"
    assert about["recorded"]["doubled"] == 2


def test_recorded_predictions_score_alike_without_videos(world: Path) -> None:
    run_test(VideoHallucer(Scripted(), str(world / "out"), name="scripted"), world)
    again = VideoHallucer(None, str(world / "again"), predictions=str(world / "out"), name="scripted")
    run_test(again, world, videos=None)
    first, second = (json.loads((world / folder / "results.json").read_text()) for folder in ("out", "again"))
    for results in (first, second):
        results["about"]["parameters"] = None  # a file of predictions does not tell
        results["about"]["recorded"] = None
    assert first == second


def test_recorded_predictions_of_other_questions_are_refused(world: Path) -> None:
    run_test(VideoHallucer(Scripted(), str(world / "out"), name="scripted"), world)
    path = world / "out" / "temporal_scripted.json"
    predictions = json.loads(path.read_text())
    predictions[1]["basic"]["question"] = "Was it there?"
    path.write_text(json.dumps(predictions))
    again = VideoHallucer(None, str(world / "again"), predictions=str(world / "out"), name="scripted")
    with pytest.raises(ValueError, match=r"1 questions lack an answer:\s+temporal/000001/basic"):
        run_test(again, world, videos=None)
    run_test(again, world, videos=None, allow_missing=True)
    details = json.loads((world / "again" / "details.json").read_text())
    assert details["skipped"] == {"temporal/000001/basic": "no recorded answer"}


def test_every_file_and_record_that_cannot_be_read_is_listed_and_the_rest_is_scored(world: Path) -> None:
    run_test(VideoHallucer(Scripted(), str(world / "out")), world)
    temporal = world / "out" / "temporal_policy.json"
    good = json.loads(temporal.read_text())
    lacking = {"basic": {**good[1]["basic"], "predict": None}}
    again = VideoHallucer(None, str(world / "again"), predictions=str(world / "out"))
    for content, message in (
        ([good[0], lacking, "x"], r"row 2 is no record[\s\S]*2 questions lack an answer"),
        ({"data": good}, r"temporal_policy\.json holds no list of records[\s\S]*4 questions lack"),
    ):
        temporal.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=message):
            run_test(again, world, videos=None)
    run_test(again, world, videos=None, allow_missing=True)
    assert results_of(world / "again")["semantic"] == results_of(world / "out")["semantic"]
    about = results_of(world / "again")["about"]
    assert about["recorded"] == {"missing": 4, "doubled": 0, "unknown": 0, "unreadable": 1, "absent_files": 0}
    (world / "out" / "semantic_policy.json").write_text("{")
    temporal.unlink()
    with pytest.raises(ValueError, match=r"1 files do not exist .* SUBSET_NAME\.json; set model\.name") as error:
        run_test(again, world, videos=None, allow_missing=True)
    assert str(temporal) in str(error.value)
    assert "semantic_policy.json is not JSON" in str(error.value)


RANKS = """
import sys
from pathlib import Path
from lightning.pytorch import Trainer
from benchmarks.video_hallucer.module import VideoHallucer
from datamodules.questions.video_hallucer import VideoHallucerQuestions
from tests.support.hallucer_world import Scripted
world = Path({world!r})
trainer = Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_progress_bar=False,
                  enable_model_summary=False, enable_checkpointing=False)
data = VideoHallucerQuestions(str(world / "questions"), str(world / "videos"), num_frames=2, batch_size=2)
trainer.test(VideoHallucer(Scripted(), str(world / "two"), margins=True), data, verbose=False)
"""


@pytest.mark.slow
def test_two_processes_write_what_one_writes(world: Path) -> None:
    run_test(VideoHallucer(Scripted(), str(world / "one"), margins=True), world)
    script = world / "ranks.py"
    script.write_text(RANKS.format(world=str(world)))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, str(script)], check=True, timeout=300, env=environment, cwd=world)
    for file in ("results.json", "temporal_policy.json", "semantic_policy.json"):
        assert json.loads((world / "two" / file).read_text()) == json.loads((world / "one" / file).read_text())


KILLED = """
import sys, time
from pathlib import Path
from lightning.pytorch import Trainer
from benchmarks.video_hallucer.module import VideoHallucer
from datamodules.questions.video_hallucer import VideoHallucerQuestions
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from tests.support.tiny_video_llava import NUM_FRAMES

class Slow(VideoLlavaPolicy):
    def generate(self, prompts, frames, max_new_tokens, *more):
        with open("asked.txt", "a") as file:
            file.write("".join(prompt + "|" for prompt in prompts))
        time.sleep(float(sys.argv[2]))
        return super().generate(prompts, frames, max_new_tokens, *more)

trainer = Trainer(accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_model_summary=False,
                  enable_checkpointing=False)
policy = Slow("model", num_frames=NUM_FRAMES)
data = VideoHallucerQuestions({questions!r}, "videos", num_frames=NUM_FRAMES, batch_size=4)
trainer.test(VideoHallucer(policy, sys.argv[1], max_new_tokens=3), data, verbose=False)
"""


@pytest.mark.slow
def test_a_killed_test_over_every_published_subset_goes_on(tmp_path: Path) -> None:
    save_tiny_video_llava(tmp_path / "model")
    published = DATA / "videohallucer"
    asks = VideoHallucerQuestions(str(published), None)
    asks.setup("test")
    (tmp_path / "videos").mkdir()
    stand_in = encode_mp4(np.random.default_rng(0).integers(0, 255, (4, 16, 16, 3)).astype(np.uint8), fps=4.0)
    for question in asks.everything.values():
        (tmp_path / "videos" / question.video).write_bytes(stand_in)
    script = tmp_path / "run.py"
    script.write_text(KILLED.format(questions=str(published)))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def start(output: str, pause: float) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, str(script), output, str(pause)], env=environment, cwd=tmp_path,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip

    killed, part = start("out", 0.5), tmp_path / "out" / "answers" / "rank-00000.jsonl"
    deadline = time.monotonic() + 240
    while not (part.is_file() and part.read_bytes().count(b"\n") >= 8):
        assert killed.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    answered = part.read_bytes().count(b"\n")
    assert 8 <= answered < len(asks.asked)
    assert not (tmp_path / "out" / "results.json").exists()

    (tmp_path / "asked.txt").unlink()
    assert start("out", 0).wait(timeout=240) == 0
    assert (tmp_path / "asked.txt").read_text().count("|") == len(asks.asked) - answered
    assert start("whole", 0).wait(timeout=240) == 0
    assert results_of(tmp_path / "out") == results_of(tmp_path / "whole")
