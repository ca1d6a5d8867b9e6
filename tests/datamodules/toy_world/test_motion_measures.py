"""Measures of toy videos: ground truth scores near 1, and a fault lowers its own measure the more the worse it is."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from datamodules.toy_world.motion_measures import Measures, mean_measures, measure, measure_segments
from datamodules.toy_world.motion_world import (
    BACKGROUND,
    MOTION_COLORS,
    SIZE,
    SPEEDS,
    MotionScene,
    draw_motion_scene,
    render_motion,
)
from datamodules.toy_world.render import SHAPES, Frames, Thing
from datamodules.video.codec import decode_frames, encode_mp4

SEEDS = st.integers(0, 10**6)


def scene_of(seed: int) -> MotionScene:
    return draw_motion_scene(random.Random(seed))


def tensor(frames: Frames) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)


def measured(frames: Frames, scene: MotionScene) -> Measures:
    return measure(tensor(frames), scene.motion)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_ground_truth_is_nearly_perfect(seed: int) -> None:
    scene = scene_of(seed)
    measures = measured(render_motion(scene), scene)
    assert measures.motion == pytest.approx(1, abs=0.02)
    assert measures.direction == pytest.approx(1, abs=0.01)
    assert measures.speed == pytest.approx(float(np.linalg.norm(scene.velocity)), abs=0.03)
    assert min(measures.shape, measures.color, measures.smoothness) > 0.9
    assert measures.quality > 0.94


@pytest.mark.parametrize("seed", range(5))
def test_mp4_costs_little(seed: int) -> None:
    scene = scene_of(seed)
    frames = decode_frames(encode_mp4(render_motion(scene), 8.0), range(33))
    measures = measure(frames, scene.motion)
    assert measures.motion == pytest.approx(1, abs=0.03)
    assert measures.quality > 0.8


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_segments_are_measured_alike_and_make_up_the_video(seed: int) -> None:
    scene = scene_of(seed)
    frames = tensor(render_motion(scene))
    segments = measure_segments(frames, scene.motion, 8)
    assert len(segments) == 4
    assert all(segment.motion == pytest.approx(1, abs=0.05) and segment.quality > 0.93 for segment in segments)
    assert segments[-1] == measure(frames[24:], scene.motion)  # the odd last frame is in it
    assert mean_measures(segments).quality == pytest.approx(measure(frames, scene.motion).quality, abs=0.02)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_either_way_is_motion_and_quality_is_blind_to_it(seed: int) -> None:
    scene = scene_of(seed)
    frames = render_motion(scene)
    backwards, still = measured(frames[::-1], scene), measured(frames[:1].repeat(33, axis=0), scene)
    assert (backwards.motion, backwards.direction) == pytest.approx((1, 1), abs=0.02)
    assert (still.motion, still.direction, still.speed) == pytest.approx((0, 0, 0), abs=1e-6)
    for measures in (backwards, still):
        assert measures.quality == pytest.approx(measured(frames, scene).quality, abs=0.04)
    there_and_back = measured(np.concatenate([frames[:17], frames[:16][::-1]]), scene)
    assert there_and_back.motion == pytest.approx(0, abs=0.02)
    turned = replace(scene.motion, axis="vertically" if scene.motion.axis == "horizontally" else "horizontally")
    across = measure(tensor(frames), turned)
    assert (across.motion, across.direction) == pytest.approx((0, 0), abs=0.02)
    slower = replace(scene, motion=replace(scene.motion, speed="slow"))
    share = {"slow": 1.0, "medium": 0.4, "fast": 2 / 11}[scene.motion.speed]
    assert measured(render_motion(slower), scene).motion == pytest.approx(share, abs=0.02)


def _with_color_of_other(frames: Frames, scene: MotionScene, share: float) -> Frames:
    other = next(color for color in MOTION_COLORS if color != scene.motion.thing.color)
    wrong = replace(scene, motion=replace(scene.motion, thing=Thing(other, scene.motion.thing.shape)))
    mixed: Frames = ((1 - share) * frames + share * render_motion(wrong)).astype(np.uint8)
    return mixed


def _blurred(frames: Frames, scene: MotionScene, amount: float) -> Frames:
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 3 * amount) for frame in frames])


def _trembling(frames: Frames, scene: MotionScene, amount: float) -> Frames:
    draws = np.random.default_rng(0)
    offsets = (draws.uniform(-4, 4, (len(frames), 2)) * amount).round().astype(int)
    return np.stack([np.roll(frame, tuple(offset), axis=(0, 1)) for frame, offset in zip(frames, offsets, strict=True)])


def _flickering(frames: Frames, scene: MotionScene, amount: float) -> Frames:
    strength = np.where(np.arange(len(frames)) % 2, 1 - amount * 0.8, 1.0)[:, None, None, None]
    dimmed: Frames = (BACKGROUND + (frames.astype(float) - BACKGROUND) * strength).astype(np.uint8)
    return dimmed


def _doubled(frames: Frames, scene: MotionScene, amount: float) -> Frames:
    ghost = BACKGROUND + (np.roll(frames, SIZE // 2, axis=(1, 2)).astype(float) - BACKGROUND) * amount
    both: Frames = np.maximum(frames, ghost).astype(np.uint8)
    return both


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (_with_color_of_other, "color"),
        (_blurred, "shape"),
        (_doubled, "shape"),
        (_trembling, "smoothness"),
        (_flickering, "smoothness"),
    ],
)
def test_worse_faults_score_lower(fault: Callable[[Frames, MotionScene, float], Frames], name: str) -> None:
    for seed in range(6):
        scene = scene_of(seed)
        frames = render_motion(scene)
        measures = [measured(fault(frames, scene, amount), scene) for amount in (0.25, 0.5, 1.0)]
        scores = [getattr(video, name) for video in (measured(frames, scene), *measures)]
        assert scores == sorted(scores, reverse=True)
        assert scores[-1] < scores[0] - 0.2
        assert measures[-1].quality < measured(frames, scene).quality - 0.05


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_another_shape_fits_less_than_the_right_one(seed: int) -> None:
    scene = scene_of(seed)
    right = measured(render_motion(scene), scene)
    for shape in SHAPES:
        if shape != scene.motion.thing.shape:
            other = replace(scene, motion=replace(scene.motion, thing=Thing(scene.motion.thing.color, shape)))
            measures = measured(render_motion(other), scene)
            assert measures.shape < right.shape - 0.1
            assert (measures.color, measures.motion) == pytest.approx((right.color, right.motion), abs=0.02)


def test_nothing_and_noise_score_low() -> None:
    scene = scene_of(0)
    black = torch.full((33, 3, SIZE, SIZE), BACKGROUND, dtype=torch.uint8)
    assert measure(black, scene.motion) == Measures(0, 0, 0, 0, 0, 0)
    noise = torch.randint(0, 256, (33, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert measure(noise, scene.motion).quality < 0.3


def test_a_shape_that_vanishes_for_a_while_loses_as_much() -> None:
    scene = next(scene for scene in map(scene_of, range(50)) if scene.motion.speed == SPEEDS[0])
    frames = render_motion(scene)
    frames[8:16] = BACKGROUND
    measures, segments = measured(frames, scene), measure_segments(tensor(frames), scene.motion, 8)
    assert measures.shape == pytest.approx(25 / 33, abs=0.02)
    assert segments[1].quality == 0
    assert segments[2].quality > 0.93


@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (9, 3, 48, 48), (9, 32, 32, 3)])
def test_other_frames_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="give at least 3 of"):
        measure(torch.zeros(shape, dtype=torch.uint8), scene_of(0).motion)
