"""The toy judge: names the better made video in either order of showing, whichever moves more, or says tie."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.dense.latent_space import LatentSpace
from datamodules.dense.rows import PairRow
from datamodules.schemas import write_shards
from datamodules.stream.predict_outputs import tensor_bytes
from datamodules.toy_world.motion_world import MotionScene, draw_motion_scene, render_motion
from datamodules.video.codec import encode_mp4
from lightning_modules.judges.base import JudgeQuestion
from lightning_modules.judges.replies import parse_verdict
from lightning_modules.judges.toy import ToyJudge
from lightning_modules.predict.segment_questions import SegmentQuestions

SPACE = LatentSpace("toy", (0.0,) * 2, (1.0,) * 2, 4, 8)
SCENE: MotionScene = draw_motion_scene(random.Random(3), "medium")


def video(scene: MotionScene = SCENE) -> Tensor:
    return torch.from_numpy(render_motion(scene)).permute(0, 3, 1, 2).contiguous()


def row(key: str = "pair", prompt: str = str(SCENE.motion)) -> PairRow:
    return PairRow(key, key, prompt, SCENE.facts, "structural", 0.7, (1, 2), (2, 9, 4, 4), SPACE)


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    """The index of two pairs, one of the toy world and one that is not."""
    samples = []
    for pair in (row(), row("dog", "a dog runs")):
        mp4 = encode_mp4(video(), 8.0)
        members = {
            "first.mp4": mp4,
            "second.mp4": mp4,
            "latents.safetensors": tensor_bytes({name: torch.zeros(2, 9, 4, 4) for name in ("first", "second")}),
            "prompt.safetensors": tensor_bytes({"embeds": torch.zeros(3, 8)}),
            "json": json.dumps(pair.to_json()).encode(),
        }
        samples.append((pair.key, members))
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


def test_standing_still_is_no_fault(pairs: str) -> None:
    still = video()[:1].repeat(33, 1, 1, 1)
    assert verdicts(ToyJudge(pairs, margin=0.03), still, video()) == [("tie", "tie")] * 4


def test_the_margin_decides_what_is_a_tie(pairs: str) -> None:
    paler = video() - (video().int() - 20).div(8, rounding_mode="floor").to(torch.uint8)
    assert verdicts(ToyJudge(pairs, margin=0.0), video(), paler) == [("first", "second")] * 4
    assert verdicts(ToyJudge(pairs, margin=0.5), video(), paler) == [("tie", "tie")] * 4


def test_questions_about_something_else_are_refused(pairs: str) -> None:
    judge, frames = ToyJudge(pairs), list(video()[:4])
    with pytest.raises(ValueError, match="has no pair 'other'"):
        judge.ask([JudgeQuestion("", frames, "other")])
    with pytest.raises(ValueError, match="tells of no motion"):
        judge.ask([JudgeQuestion("", frames, "dog")])
    for images in ([], frames[:3], [b"png", b"png"]):
        with pytest.raises(ValueError, match="compares two videos"):
            judge.ask([JudgeQuestion("", images, "pair")])
    with pytest.raises(ValueError, match="margin is -1"):
        ToyJudge(pairs, margin=-1)


def test_the_name_tells_the_margin() -> None:
    assert ToyJudge("pairs.index.json", margin=0.05).name == "toy:0.05"
