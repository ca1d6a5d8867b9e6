"""Measures of toy videos: motion is blind to jitter, quality to motion, and a fault costs the more the worse it is."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.toy_world.motion_measures import Measures, mean_measures, measure, measure_segments
from datamodules.toy_world.motion_world import (
    BACKGROUND,
    MOTION_COLORS,
    SIZE,
    MotionScene,
    ShapeMotion,
    draw_motion_scene,
    render_motion,
)
from datamodules.toy_world.render import SHAPES, Frames, Thing
from datamodules.video.codec import decode_frames, encode_mp4

#: What clean videos differ by from the pictures that are searched, at quarters of a pixel.
CLEAN = 0.01


def scene_of(seed: int) -> MotionScene:
    return draw_motion_scene(random.Random(seed))


def tensor(frames: Frames) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)


def measured(frames: Frames, scene: MotionScene) -> Measures:
    return measure(tensor(frames), scene.motion)


@pytest.mark.parametrize("seed", range(8))
def test_ground_truth_is_clean_and_moves_at_its_speed(seed: int) -> None:
    scene = scene_of(seed)
    measures = measured(render_motion(scene), scene)
    # Places are searched at quarters of a pixel, which a median of eight steps may be off by.
    assert measures.speed == pytest.approx(scene.speed, abs=0.13)
    assert measures.artifact < CLEAN
    assert measures.quality == 1 - measures.artifact


def test_quality_is_blind_to_the_motion_of_clean_videos() -> None:
    thing = Thing("red", "triangle")
    motion = ShapeMotion(thing, "vertically")
    velocities = [(0.0,), (0.5,), (1.5,), (4.0,), (3.0, -3.0, 3.0, -3.0), (0.2, 4.0, -0.2, -4.0)]
    qualities = [
        measure(tensor(render_motion(MotionScene(motion, (16.0, 3.0), way, stride))), motion).quality
        for way in velocities
        for stride in (0.0, 5.0)
    ]
    assert max(qualities) - min(qualities) < CLEAN
    # Independent of speed, not only near 1: over drawn videos speed explains none of what is left.
    scenes = [scene_of(seed) for seed in range(24)]
    artifacts = [measured(render_motion(scene), scene).artifact for scene in scenes]
    slow = np.array([scene.speed for scene in scenes]) < 1.0
    assert np.mean(np.array(artifacts)[slow]) == pytest.approx(np.mean(np.array(artifacts)[~slow]), abs=0.003)


def test_motion_is_blind_to_jitter() -> None:
    scene = MotionScene(ShapeMotion(Thing("blue", "circle"), "horizontally"), (4.0, 16.0), (1.0,))
    frames = render_motion(scene)
    random_steps = np.random.default_rng(0).integers(-2, 3, len(frames))
    jittering = np.stack([np.roll(frame, step, axis=1) for frame, step in zip(frames, random_steps, strict=True)])
    still = np.stack([np.roll(frames[0], step, axis=1) for step in random_steps])
    assert measured(frames, scene).speed == pytest.approx(1.0, abs=0.05)
    assert measured(jittering, scene).speed == pytest.approx(1.0, abs=0.6)
    mean_step = np.abs(np.diff(random_steps)).mean()
    assert mean_step > 1.3, "what a mean of absolute steps would take for motion"
    assert measured(still, scene).speed < 0.6
    to_and_fro = np.stack([np.roll(frames[0], index % 2, axis=1) for index in range(len(frames))])
    # Eight steps of which half go either way: their median is between them.
    assert measured(to_and_fro, scene).speed < 0.01


def test_motion_is_net_displacement_along_the_prompts_axis() -> None:
    scene = MotionScene(ShapeMotion(Thing("blue", "circle"), "horizontally"), (4.0, 16.0), (2.0,))
    frames = render_motion(scene)
    assert measured(frames[::-1], scene).speed == pytest.approx(2.0, abs=0.05), "either way"
    across = replace(scene, motion=replace(scene.motion, axis="vertically"))
    assert measured(frames, across).speed == pytest.approx(0.0, abs=0.05)
    turning = replace(scene, velocities=(2.0, -2.0, 2.0, -2.0))
    assert measured(render_motion(turning), scene).speed == pytest.approx(2.0, abs=0.05), "a turn is no lack of motion"
    half = replace(scene, velocities=(2.0, 2.0, 0.0, 0.0))
    assert measured(render_motion(half), scene).speed == pytest.approx(1.0, abs=0.05)


def test_an_ordinary_mp4_costs_as_much_as_artifacts_do_and_a_lossless_one_nothing() -> None:
    scene = scene_of(3)
    frames = render_motion(scene)
    lossy, lossless = (decode_frames(encode_mp4(frames, 8.0, lossless), range(33)) for lossless in (False, True))
    assert measure(lossless, scene.motion) == measured(frames, scene)
    assert measure(lossy, scene.motion).artifact > measured(frames, scene).artifact + 0.005


@pytest.mark.parametrize("seed", range(3))
def test_segments_are_measured_alike_and_make_up_the_video(seed: int) -> None:
    scene = scene_of(seed)
    frames = tensor(render_motion(scene))
    segments = measure_segments(frames, scene.motion, 8)
    assert len(segments) == 4
    speeds = [abs(velocity) for velocity in scene.velocities]
    assert [segment.speed for segment in segments] == pytest.approx(speeds, abs=0.26)
    assert segments[-1] == measure(frames[24:], scene.motion), "the odd last frame is in it"
    assert mean_measures(segments).quality == pytest.approx(measure(frames, scene.motion).quality, abs=0.002)


def _with_color_of_other(frames: Frames, scene: MotionScene, share: float) -> Frames:
    other = next(color for color in MOTION_COLORS if color != scene.motion.thing.color)
    wrong = replace(scene, motion=replace(scene.motion, thing=Thing(other, scene.motion.thing.shape)))
    mixed: Frames = ((1 - share) * frames + share * render_motion(wrong)).astype(np.uint8)
    return mixed


def _blurred(frames: Frames, scene: MotionScene, amount: float) -> Frames:
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 3 * amount) for frame in frames])


def _pale(frames: Frames, scene: MotionScene, amount: float) -> Frames:
    dimmed: Frames = (BACKGROUND + (frames.astype(float) - BACKGROUND) * (1 - 0.8 * amount)).astype(np.uint8)
    return dimmed


def _doubled(frames: Frames, scene: MotionScene, amount: float) -> Frames:
    ghost = BACKGROUND + (np.roll(frames, SIZE // 2, axis=(1, 2)).astype(float) - BACKGROUND) * amount
    both: Frames = np.maximum(frames, ghost).astype(np.uint8)
    return both


@pytest.mark.parametrize("fault", [_with_color_of_other, _blurred, _pale, _doubled])
def test_worse_faults_cost_more(fault: Callable[[Frames, MotionScene, float], Frames]) -> None:
    for seed in range(3):
        scene = scene_of(seed)
        frames = render_motion(scene)
        faulty = [measured(fault(frames, scene, amount), scene) for amount in (0.25, 0.5, 1.0)]
        qualities = [video.quality for video in (measured(frames, scene), *faulty)]
        assert qualities == sorted(qualities, reverse=True)
        assert qualities[-1] < qualities[0] - 0.2


def test_another_shape_is_less_clean_than_the_right_one() -> None:
    scene = scene_of(1)
    for shape in SHAPES:
        if shape != scene.motion.thing.shape:
            other = replace(scene, motion=replace(scene.motion, thing=Thing(scene.motion.thing.color, shape)))
            assert measured(render_motion(other), scene).artifact > 3 * CLEAN


def test_nothing_is_as_far_as_nothing_and_noise_is_further() -> None:
    scene = scene_of(0)
    black = torch.full((33, 3, SIZE, SIZE), BACKGROUND, dtype=torch.uint8)
    assert measure(black, scene.motion).artifact == pytest.approx(1.0, abs=0.05)
    noise = torch.randint(0, 256, (33, 3, SIZE, SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert measure(noise, scene.motion).quality < 0


def test_a_shape_that_vanishes_for_a_second_costs_that_second() -> None:
    scene = scene_of(2)
    frames = render_motion(scene)
    frames[8:16] = BACKGROUND
    segments = measure_segments(tensor(frames), scene.motion, 8)
    assert segments[1].quality == pytest.approx(0, abs=0.05)
    assert min(segment.quality for segment in (segments[0], *segments[2:])) > 1 - CLEAN


@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (9, 3, 48, 48), (9, 32, 32, 3)])
def test_other_frames_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="give at least 3 of"):
        measure(torch.zeros(shape, dtype=torch.uint8), scene_of(0).motion)
