"""Dimensions frame by frame: whatever the chunks, as from the whole video by the published rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.vbench.flow_measures import Dynamics, StaticFlickering
from benchmarks.vbench.measures import (
    Flickering,
    Measure,
    NetworkMeasure,
    Scoring,
    Smoothness,
    scored_on,
    start,
)
from benchmarks.vbench.motion import BlendInterpolation
from benchmarks.vbench.networks import DinoFeatures, FrameNetwork
from benchmarks.vbench.rules import STATIC_SHARE, consistency, flow_score, is_static, temporal_flickering
from datamodules.questions.video_folder import FolderVideo
from datamodules.video.codec import probe, stream_frames
from datamodules.video.facts import VideoFacts
from datamodules.video.optical_flow import DisFlow, RaftFlow
from tests.support.goldens import golden
from tests.support.paths import TESTS
from tests.support.vbench_samples import save_dino, save_raft, sliding_picture


def watched(measure: Measure, frames: Tensor, chunk: int, fps: float = 8.0) -> dict[str, Any]:
    facts = VideoFacts(len(frames), fps, frames.shape[3], frames.shape[2])
    watcher = measure.watch(facts)
    for first in range(0, len(frames), chunk):
        watcher.see(frames[first : first + chunk], first)
    return watcher.result()


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_flickering_is_that_of_the_whole_video(chunk: int) -> None:
    frames = sliding_picture(2, 9)
    assert watched(Flickering(), frames, chunk)["score"] == temporal_flickering(frames)


def test_flickering_of_a_real_mp4_is_the_published_score() -> None:
    """Decoders differ in the last bit of a colour: hence the tolerance."""
    video = TESTS / "data" / "videoscore" / "video1.mp4"
    expected = golden("bench_vbench_temporal_flickering")["real_mp4"]["videoscore/video1.mp4"]
    facts = probe(video)
    assert (facts.frames, facts.fps, [facts.height, facts.width, 3]) == (
        expected["n_frames"],
        expected["fps"],
        expected["shape"],
    )
    watcher = Flickering().watch(facts)
    for number, frame in stream_frames(video, range(facts.frames)):
        watcher.see(frame[None], number)
    assert watcher.result()["score"] == pytest.approx(expected["score"], abs=2e-4)


@pytest.mark.parametrize("chunk", [1, 4, 100])
@pytest.mark.parametrize("count", [8, 9])
def test_smoothness_compares_odd_frames_with_the_middle_of_their_neighbours(count: int, chunk: int) -> None:
    frames = sliding_picture(3, count)
    numbers = [odd for odd in range(1, count, 2) if odd + 1 < count]
    even = frames.int()
    expected = [((even[odd - 1] + even[odd + 1]) // 2 - even[odd]).abs().double().mean().item() for odd in numbers]
    score = watched(Smoothness(BlendInterpolation()), frames, chunk)["score"]
    assert score == pytest.approx((255 - np.mean(expected)) / 255, abs=1e-12)
    assert watched(Smoothness(BlendInterpolation()), sliding_picture(0, count), chunk)["score"] == 1


@pytest.mark.parametrize("chunk", [1, 2, 5, 100])
@pytest.mark.parametrize(("fps", "interval"), [(8.0, 1), (24.0, 3), (16.0, 2)])
def test_flow_is_measured_at_the_published_interval(fps: float, interval: int, chunk: int) -> None:
    frames = sliding_picture(2, 11)
    scores = watched(Dynamics(DisFlow("fast")), frames, chunk, fps)
    magnitudes = DisFlow("fast").magnitudes(frames[::interval])
    assert scores["flow"] == pytest.approx(
        float(np.mean([flow_score(magnitude) for magnitude in magnitudes])), rel=1e-6
    )


def test_a_video_that_moves_is_dynamic_and_a_still_one_is_not() -> None:
    # 48 pixels high: more than 6 * 48 / 256 pixels.
    fast, still = (watched(Dynamics(DisFlow()), sliding_picture(step, 9), 4) for step in (4, 0))
    assert (fast["score"], still["score"]) == (True, False)
    assert fast["flow"] == pytest.approx(4, abs=1.5)
    assert still["flow"] == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_the_static_filter_looks_at_all_frames_and_at_the_ends(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr("benchmarks.vbench.flow_measures.is_static", lambda *arguments: not asked.append(arguments))
    frames, flow = sliding_picture(2, 9), DisFlow("fast")
    scores = watched(StaticFlickering(flow), frames, chunk, fps=24.0)
    assert scores == {"score": temporal_flickering(frames), "static": True}
    [(pairs, ends, height, width)] = asked
    assert (height, width) == (48, 64)
    assert pairs == pytest.approx(
        [flow_score(magnitude, STATIC_SHARE) for magnitude in flow.magnitudes(frames)], rel=1e-6
    )
    first_to_last = torch.stack([frames[0], frames[-1], frames[0]])
    assert ends == pytest.approx(
        [flow_score(magnitude, STATIC_SHARE) for magnitude in flow.magnitudes(first_to_last)], rel=1e-6
    )
    assert is_static(pairs, ends, 48, 64) is False


def test_a_still_video_is_static() -> None:
    assert watched(StaticFlickering(DisFlow()), sliding_picture(0, 9), 4) == {"score": 1.0, "static": True}
    assert watched(StaticFlickering(DisFlow()), sliding_picture(4, 9), 4)["static"] is False
    assert StaticFlickering(DisFlow()).facts()["proxy"]


def test_raft_is_shown_frames_padded_in_the_middle_and_all_of_it_counts(tmp_path: Path) -> None:
    flow = RaftFlow(save_raft(tmp_path / "raft.pth"), "small", num_updates=1)
    frames = torch.randint(0, 256, (3, 3, 131, 150), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    measure = Dynamics(flow)
    assert not measure.light
    measure.place(torch.device("cpu"))
    scores = watched(measure, frames, 2)
    padded = torch.nn.functional.pad(frames.float(), (1, 1, 2, 3), mode="replicate")
    assert padded.shape[2:] == (136, 152)
    magnitudes = flow.magnitudes(padded)
    assert magnitudes.shape == (2, 136, 152)
    assert scores["flow"] == pytest.approx(
        float(np.mean([flow_score(magnitude) for magnitude in magnitudes])), rel=1e-5
    )


def test_features_become_their_consistency(tmp_path: Path) -> None:
    network = DinoFeatures(save_dino(tmp_path))
    measure = NetworkMeasure(network, consistent=True)
    measure.load()
    frames = sliding_picture(4, 7)
    assert watched(measure, frames, 3)["score"] == pytest.approx(consistency(network(frames)), abs=1e-6)


class _Brightness(FrameNetwork):
    published = "brightness"

    def load(self) -> None:
        """Nothing to read."""

    def forward(self, frames: Tensor) -> Tensor:
        return frames.float().mean(dim=(1, 2, 3))


def test_scores_become_their_mean() -> None:
    frames = sliding_picture(4, 7)
    score = watched(NetworkMeasure(_Brightness(""), scale=0.1), frames, 3)["score"]
    assert score == pytest.approx(frames.float().mean(dim=(1, 2, 3)).mean().item() / 10, rel=1e-5)


def test_a_video_gets_what_its_prompt_is_for(tmp_path: Path) -> None:
    facts = VideoFacts(9, 8.0, 64, 48)
    every = FolderVideo("a-0.mp4", tmp_path, "a", 0, facts, "")
    video = FolderVideo("b-0.mp4", tmp_path, "b", 0, facts, "", frozenset({"temporal_flickering", "scene"}))
    measures: dict[str, Measure] = {
        "temporal_flickering": Flickering(),
        "motion_smoothness": Smoothness(BlendInterpolation()),
    }
    assert scored_on(every, measures) == list(measures)
    assert scored_on(video, measures) == ["temporal_flickering"]
    assert list(start(measures, video).watchers) == ["temporal_flickering"]
    scoring = Scoring(measures, ["subject_consistency"])
    assert scoring.sends(every)
    assert not scoring.sends(video)
    assert all(measure.light for measure in measures.values())
