"""Each filter against clips of which the truth is known: what it measures, and why it rejects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from datamodules.prepare.aesthetic import Aesthetic, linear_score, read_head
from datamodules.prepare.video_filters import (
    Candidate,
    Cuts,
    Duration,
    Motion,
    Resolution,
    colour_distances,
)
from datamodules.video.facts import VideoFacts
from datamodules.video.optical_flow import RaftFlow
from lightning_modules.judges.base import Judge, JudgeQuestion
from lightning_modules.judges.dynamic_caption import DynamicCaption, yes_or_no
from tests.support.moving_clips import sliding
from tests.support.paths import DATA

LAION = DATA / "laion_aesthetic"


def clip(frames: torch.Tensor | None = None, caption: str = "A dog runs.", fps: float = 8.0) -> Candidate:
    return Candidate(caption, VideoFacts(50, 10.0, 640, 360), frames, fps)


@pytest.mark.parametrize(
    ("criterion", "why"),
    [
        (Duration(), None),
        (Duration(least=5, most=5), None),
        (Duration(least=5.5), "duration 5 s is below 5.5 s"),
        (Duration(most=4), "duration 5 s is above 4 s"),
        (Resolution(least=360), None),
        (Resolution(least=480), "shorter_side 360 pixels is below 480 pixels"),
    ],
)
def test_facts_are_bounded(criterion: Duration | Resolution, why: str | None) -> None:
    assert criterion.judge(clip()).why == why


def test_motion_rejects_stills_and_haste() -> None:
    criterion = Motion(least=0.02, most=1.0)
    still, slow, fast = (criterion.judge(clip(sliding(step, count=9))) for step in (0, 1, 10))
    assert still.scores["motion"] < 0.001
    assert still.why is not None
    assert "is below 0.02" in still.why
    assert slow.why is None
    assert slow.scores["motion"] == pytest.approx(8 / 64, rel=0.2)  # a pixel a frame, 8 frames a second, 64 pixels
    assert fast.why is not None
    assert "is above 1" in fast.why
    assert Motion(least=None, most=None).judge(clip(sliding(0, count=9))).why is None


@pytest.mark.parametrize(("shrink", "bound"), [(2, 0.132), (4, 0.144)])
def test_motion_on_smaller_frames_has_its_own_bound(shrink: Literal[2, 4], bound: float) -> None:
    frames = sliding(2, count=9, size=128)
    whole = Motion(least=0.12).judge(clip(frames))
    small = Motion(least=0.12, shrink=shrink).judge(clip(frames))
    assert set(whole.scores) == {"motion"}
    assert whole.why is None
    assert small.scores["motion"] == pytest.approx(whole.scores["motion"], rel=0.2)
    assert small.scores["motion_shrink"] == shrink
    assert small.scores["motion_least"] == pytest.approx(bound)
    assert f"is below {bound:g}" in str(small.why)
    assert Motion(least=None, shrink=shrink).judge(clip(frames)).scores.keys() == {"motion", "motion_shrink"}
    with pytest.raises(ValueError, match="shrink is 3; give 1, 2, 4"):
        Motion(shrink=3)  # type: ignore[arg-type]


def test_a_cut_is_found_where_it_is_and_motion_is_none() -> None:
    shots = torch.cat([sliding(2, count=8, hue=0), sliding(2, count=4, hue=1), sliding(2, count=4, hue=1)])
    finding = Cuts().judge(clip(shots))
    assert finding.scores["cuts"] == 1
    assert finding.scores["cut_distance"] > 0.8
    assert finding.why == "cuts 1 is above 0 (at 1.00 s of the clip)"
    assert Cuts(most=1).judge(clip(shots)).why is None
    moving = Cuts().judge(clip(sliding(5, count=16)))
    assert moving.why is None
    assert moving.scores["cuts"] == 0


@pytest.mark.parametrize("level", [0, 31, 127, 144, 250])
def test_a_slight_change_of_light_is_no_cut_wherever_the_bins_end(level: int) -> None:
    plain = torch.full((2, 3, 16, 16), level, dtype=torch.uint8)
    plain[1] += 2
    assert colour_distances(plain)[0] < 0.2
    assert colour_distances(plain[:1]) == []
    frame = sliding(0, count=1)[0]
    assert Cuts().judge(clip(torch.stack([frame, frame + 5]))).why is None


def test_colours_that_share_nothing_are_one_apart() -> None:
    colours = torch.zeros(3, 3, 200, 300, dtype=torch.uint8)
    colours[1:, 0] = 255
    colours[2, :, :100] = 0
    assert colour_distances(colours) == pytest.approx([1, 0.5], abs=0.01)


def test_thresholds_are_checked() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Cuts(threshold=30)
    for fps in (0, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"fps is {fps:g}"):
            Motion(fps=fps)


def test_the_published_head_ranks_the_published_embeddings() -> None:
    weight, bias = read_head(str(LAION / "sa_0_4_vit_l_14_linear.pth"))
    embeddings = np.load(LAION / "embeddings.npy")
    expected = embeddings @ weight.numpy()[0] + bias.item()
    scores = linear_score(torch.from_numpy(embeddings), weight, bias)
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    assert (np.diff(scores) > 1).all()
    torch.testing.assert_close(linear_score(7 * torch.from_numpy(embeddings), weight, bias), scores)


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
        projection_dim=8,
    )
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    return str(folder)


def test_aesthetic_score_is_the_mean_over_some_frames(tiny_clip: str, tmp_path: Path) -> None:
    head = tmp_path / "head.pth"
    torch.save({"weight": torch.ones(1, 8), "bias": torch.tensor([5.0])}, head)
    frames = torch.cat([sliding(3, count=5), sliding(3, count=4, hue=2)])
    criterion = Aesthetic(str(head), tiny_clip, least=None, num_frames=3)
    finding = criterion.judge(clip(frames))
    assert finding.why is None
    single = criterion.scores(frames[[0, 4, 8]])
    assert single.std() > 0.01
    assert finding.scores["aesthetic"] == pytest.approx(single.mean().item())
    assert abs(finding.scores["aesthetic"] - 5) <= 8**0.5
    rejected = Aesthetic(str(head), tiny_clip, least=9).judge(clip(frames)).why
    assert rejected is not None
    assert "is below 9" in rejected


def test_wrong_settings_are_told_before_the_first_video(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file; give the weights of the aesthetic"):
        Aesthetic(str(tmp_path / "none.pth")).prepare()
    with pytest.raises(ValueError, match=r"weights 'none\.pth': no such file"):
        Motion(flow=RaftFlow("none.pth")).prepare()
    Motion().prepare()


def test_a_head_for_another_clip_is_refused(tiny_clip: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"embeddings of 768 numbers, .* gives 8"):
        Aesthetic(str(LAION / "sa_0_4_vit_l_14_linear.pth"), tiny_clip).judge(clip(sliding(1)))
    torch.save({"weight": torch.ones(2, 8), "bias": torch.ones(2)}, tmp_path / "two.pth")
    for path, message in (("none.pth", "no such file"), ("two.pth", "no head with one output")):
        with pytest.raises(ValueError, match=message):
            read_head(str(tmp_path / path))
    with pytest.raises(ValueError, match="is not the state dict of a linear head"):
        read_head(str(LAION / "LICENSE"))


class _Scripted(Judge):
    """Answers by the caption; remembers what it was asked."""

    def __init__(self, answers: dict[str, list[str]]) -> None:
        self.answers = answers
        self.asked: list[list[JudgeQuestion]] = []

    @property
    def name(self) -> str:
        return "scripted"

    def ask(self, questions: Sequence[JudgeQuestion]) -> list[str]:
        self.asked.append(list(questions))
        caption = [question.text.split("Caption: ")[1].split("\n")[0] for question in questions]
        return [
            self.answers[answer_name][question.attempt]
            for answer_name, question in zip(caption, questions, strict=True)
        ]


def test_a_judge_is_asked_for_all_captions_at_once_and_again_only_where_it_mumbled() -> None:
    judge = _Scripted(
        {"A {dog} runs.": ["**Yes**, it runs."], "A vase.": ["no"], "Rain.": ["Hm.", "Yes"], "?": ["", ""]}
    )
    criterion = DynamicCaption(judge)
    criterion.expect(["A {dog} runs.", "A vase.", "Rain.", "A vase.", "?"])
    findings = {caption: criterion.judge(clip(caption=caption)) for caption in judge.answers}
    assert [len(questions) for questions in judge.asked] == [4, 2]
    assert len({question.key for question in judge.asked[0]}) == 4
    assert findings["A {dog} runs."].scores == {"dynamic": 1.0}
    assert findings["A {dog} runs."].why is None
    assert findings["A vase."].why == "the judge finds the caption not dynamic"
    assert findings["Rain."].why is None
    assert findings["?"].scores == {}
    assert findings["?"].why == "the judge answered neither yes nor no, 2 times"


def test_a_judge_that_fails_leaves_no_verdicts_behind() -> None:
    judge = _Scripted({"A vase.": ["Hm.", "No"], "Rain.": ["Hm."]})  # the second question about rain is an error
    criterion = DynamicCaption(judge)
    criterion.expect(["A vase."])
    for _ in range(2):
        with pytest.raises(IndexError):
            criterion.judge(clip(caption="Rain."))
    judge.answers["Rain."] = ["Hm.", "Yes"]
    assert criterion.judge(clip(caption="Rain.")).why is None
    assert criterion.judge(clip(caption="A vase.")).why == "the judge finds the caption not dynamic"


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("<think>\nNo? It jumps.\n</think>\n\nYes, it does.", True),
        ("Yes", True),
        ('"no."', False),
        ("Nothing moves", None),
        ("", None),
        ("\n NO, still", False),
    ],
)
def test_the_first_word_decides(answer: str, verdict: bool | None) -> None:
    assert yes_or_no(answer) is verdict
