"""The toy judge: names the better made video in either order of showing, whichever moves more, or says tie."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.dense.latent_space import LatentSpace
from datamodules.dense.rows import PairRow
from datamodules.schemas import write_shards
from datamodules.stream.predict_outputs import tensor_bytes
from datamodules.toy_world.motion_world import AXES, MotionScene, draw_motion_scene, render_motion
from datamodules.video.codec import encode_mp4
from lightning_modules.judges.base import JudgeQuestion
from lightning_modules.judges.replies import parse_verdict
from lightning_modules.judges.toy import ToyJudge
from lightning_modules.predict.segment_questions import SegmentQuestions

SPACE = LatentSpace("toy", (0.0,) * 2, (1.0,) * 2, 4, 8)
SCENE: MotionScene = draw_motion_scene(random.Random(3))


def video(scene: MotionScene = SCENE) -> Tensor:
    return torch.from_numpy(render_motion(scene)).permute(0, 3, 1, 2).contiguous()


def row(key: str = "pair", prompt: str = str(SCENE.motion)) -> PairRow:
    return PairRow(key, key, prompt, SCENE.facts, "structural", 0.7, (1, 2), (2, 9, 4, 4), SPACE)


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    """The index of two pairs, one of the toy world and one that is not."""
    samples = []
    for one in (row(), row("dog", "a dog runs")):
        mp4 = encode_mp4(video(), 8.0, lossless=True)
        members = {
            "first.mp4": mp4,
            "second.mp4": mp4,
            "latents.safetensors": tensor_bytes({name: torch.zeros(2, 9, 4, 4) for name in ("first", "second")}),
            "prompt.safetensors": tensor_bytes({"embeds": torch.zeros(3, 8)}),
            "json": json.dumps(one.to_json()).encode(),
        }
        samples.append((one.key, members))
    write_shards(samples, tmp_path / "pairs", "vidpref/pairs")
    return str(tmp_path / "pairs.index.json")


def verdicts(judge: ToyJudge, first: Tensor, second: Tensor) -> list[tuple[str | None, str | None]]:
    """For each segment the verdicts in both orders of showing."""
    named = [parse_verdict(reply) for reply in judge.ask(SegmentQuestions().questions(row(), first, second))]
    return list(zip(named[::2], named[1::2], strict=True))


def test_the_worse_segment_loses_in_either_order_and_equal_ones_tie(pairs: str) -> None:
    broken = video()
    broken[8:16] = torch.from_numpy(np.roll(broken[8:16].numpy(), 16, axis=3)) // 2 + broken[8:16] // 2  # a ghost
    broken[16:24] = broken[16:24].roll(1, dims=1)  # another colour
    named = verdicts(ToyJudge(pairs, margin=0.02), video(), broken)
    assert named == [("tie", "tie"), ("first", "second"), ("first", "second"), ("tie", "tie")]


def test_clean_videos_tie_however_they_move(pairs: str) -> None:
    still = video()[:1].repeat(33, 1, 1, 1)
    fast = video(replace(SCENE, velocities=(4.0, -3.5, 4.0, -4.0)))
    jerky = still.clone()
    jerky[::2] = jerky[::2].roll(5, dims=2 + 1 - AXES[SCENE.motion.axis])
    for other in (still, fast, jerky):
        assert verdicts(ToyJudge(pairs), other, video()) == [("tie", "tie")] * 4


def test_of_two_videos_with_equal_faults_the_stiller_one_is_not_preferred(pairs: str) -> None:
    still, fast = (video(replace(SCENE, velocities=(speed,))) for speed in (0.0, 4.0))
    # The same share of every frame's contrast is lost in both.
    pale = [20 + ((frames.int() - 20) * 7).div(10, rounding_mode="floor") for frames in (still, fast)]
    first, second = (frames.to(torch.uint8) for frames in pale)
    assert verdicts(ToyJudge(pairs, margin=0.01), first, second) == [("tie", "tie")] * 4
    assert verdicts(ToyJudge(pairs), first, fast) == [("second", "first")] * 4


def test_the_margin_decides_what_is_a_tie(pairs: str) -> None:
    paler = video() - (video().int() - 20).div(8, rounding_mode="floor").to(torch.uint8)
    assert verdicts(ToyJudge(pairs, margin=0.0), video(), paler) == [("first", "second")] * 4
    assert verdicts(ToyJudge(pairs, margin=0.5), video(), paler) == [("tie", "tie")] * 4


def test_questions_about_something_else_are_refused(pairs: str) -> None:
    judge, frames = ToyJudge(pairs), list(video()[:4])
    with pytest.raises(ValueError, match="has no pair 'other'"):
        judge.ask([JudgeQuestion("", frames, "other")])
    with pytest.raises(ValueError, match="describes no motion"):
        judge.ask([JudgeQuestion("", frames, "dog")])
    for images in ([], frames[:3], [b"png", b"png"]):
        with pytest.raises(ValueError, match="compares two videos"):
            judge.ask([JudgeQuestion("", images, "pair")])
    with pytest.raises(ValueError, match="margin is -1"):
        ToyJudge(pairs, margin=-1)


def test_the_name_tells_the_margin() -> None:
    assert ToyJudge("pairs.index.json", margin=0.05).name == "toy:0.05"
