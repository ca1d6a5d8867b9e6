"""Moving shapes on a torus: prompts name no speed, seconds differ, and a shape is whole and where it should be."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.toy_world.motion_world import (
    ADVERBS,
    AREA,
    AXES,
    BACKGROUND,
    FPS,
    MEAN_SPEED,
    MOTION_COLORS,
    NUM_FRAMES,
    SECOND,
    SIZE,
    SPEED_CAP,
    SPEEDS,
    STRIDE,
    SWING,
    MotionScene,
    ShapeMotion,
    around,
    coverage,
    draw_motion_scene,
    parse_motion,
    render_motion,
)
from datamodules.toy_world.render import COLORS, SHAPES, Thing

SEEDS = st.integers(0, 10**6)


def test_every_prompt_is_read_back_also_within_other_text() -> None:
    prompts = set()
    for color, shape, axis, speed in itertools.product(MOTION_COLORS, SHAPES, AXES, (None, *SPEEDS)):
        motion = ShapeMotion(Thing(color, shape), axis, speed)
        assert parse_motion(str(motion)) == motion
        assert parse_motion(f"Frames of: {motion}. Which one?") == motion
        prompts.add(str(motion))
    assert len(prompts) == 120
    assert str(ShapeMotion(Thing("red", "circle"), "vertically")) == "a red circle moves vertically"
    assert str(ShapeMotion(Thing("red", "circle"), "vertically", "fast")) == "a red circle moves vertically fast"


@pytest.mark.parametrize("text", ["", "a dog runs", "a white circle moves vertically", "a red circle moves"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="describes no motion; a prompt reads as 'a red circle moves vertically'"):
        parse_motion(text)


def test_prompts_of_drawn_scenes_name_no_speed() -> None:
    scenes = [draw_motion_scene(random.Random(seed)) for seed in range(300)]
    prompts = {str(scene.motion) for scene in scenes}
    assert len(prompts) == 30
    assert not any(adverb in prompt for adverb in ADVERBS.values() for prompt in prompts)
    # One prompt, many speeds: the prompt says nothing of them.
    by_prompt = [[scene.speed for scene in scenes if str(scene.motion) == prompt] for prompt in sorted(prompts)]
    assert min(max(speeds) - min(speeds) for speeds in by_prompt) > 0.5


def test_speeds_are_broad_and_seconds_have_their_own() -> None:
    scenes = [draw_motion_scene(random.Random(seed)) for seed in range(2000)]
    speeds = np.array([[abs(velocity) for velocity in scene.velocities] for scene in scenes])
    assert speeds.shape == (2000, 4)
    assert speeds.max() <= SPEED_CAP
    assert 0.8 * MEAN_SPEED < speeds.mean() < 1.1 * MEAN_SPEED
    assert speeds.mean(axis=1).std() > 0.6
    # A second's speed follows its video's, with a spread of its own.
    assert 0.3 < np.log(speeds[:, 0] / speeds[:, 1]).std() / 2**0.5 < 0.45
    turns = np.array([[a * b < 0 for a, b in itertools.pairwise(scene.velocities)] for scene in scenes])
    assert turns.mean() == pytest.approx(0.25, abs=0.03)


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_a_shape_moves_at_the_speed_of_each_second_and_comes_back_on_the_other_side(seed: int) -> None:
    scene = draw_motion_scene(random.Random(seed))
    centers = scene.centers()
    assert ((centers >= 0) & (centers < SIZE)).all()
    steps = around(np.diff(centers, axis=0))
    along = AXES[scene.motion.axis]
    assert np.allclose(steps[:, along], np.repeat(scene.velocities, SECOND))
    assert np.allclose(steps[:, 1 - along], 0)


@pytest.mark.parametrize(("speed", "way"), [("slow", 16), ("medium", 40), ("fast", 88)])
def test_a_given_speed_is_in_the_prompt_and_the_same_in_every_second(speed: str, way: float) -> None:
    scene = draw_motion_scene(random.Random(0), speed)  # type: ignore[arg-type]
    assert scene.motion.speed == speed
    assert scene.travelled()[1][-1] == pytest.approx(way)


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_every_frame_shows_the_whole_shape_in_its_color(seed: int) -> None:
    scene = draw_motion_scene(random.Random(seed))
    frames = render_motion(scene)
    assert frames.shape == (NUM_FRAMES, SIZE, SIZE, 3)
    color = np.array(COLORS[scene.motion.thing.color]) - BACKGROUND
    shares = (frames.astype(float) - BACKGROUND) @ color / (color @ color)
    assert shares.sum(axis=(1, 2)) == pytest.approx(np.full(NUM_FRAMES, AREA), rel=0.06)


def test_a_shape_stretches_with_the_way_that_it_has_travelled() -> None:
    motion = ShapeMotion(Thing("red", "square"), "horizontally")
    scene = MotionScene(motion, (4.0, 16.0), (STRIDE / 8,))  # one swing a second
    cover = render_motion(scene)[..., 0].astype(float) - BACKGROUND
    lengths = (cover.max(axis=1) / cover.max()).sum(axis=1)
    assert lengths[2] / lengths[6] == pytest.approx((1 + SWING) / (1 - SWING), rel=0.05)
    assert lengths[0] == pytest.approx(lengths[8], rel=0.02)
    still = render_motion(MotionScene(motion, (4.0, 16.0), (0.0,)))
    assert (still == still[0]).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_drawn_around_their_centre_of_mass(shape: str) -> None:
    pixels = np.arange(SIZE) + 0.5
    motion = ShapeMotion(Thing("red", shape), "horizontally")
    for center in ((16.0, 16.0), (15.3, 16.8)):
        for stretch in (1.0, 1 + SWING):
            cover = coverage(motion, np.array([center]), np.array([stretch]))[0]
            assert (cover.sum(0) @ pixels / cover.sum(), cover.sum(1) @ pixels / cover.sum()) == pytest.approx(
                center, abs=0.15
            )


def test_a_longer_video_begins_as_the_shorter_one() -> None:
    short = draw_motion_scene(random.Random(5))
    long = draw_motion_scene(random.Random(5), num_frames=2 * (NUM_FRAMES - 1) + 1)
    assert long.velocities[:4] == short.velocities
    assert len(long.velocities) == 8
    assert np.array_equal(render_motion(long)[:NUM_FRAMES], render_motion(short))
    assert (long.facts.frames, long.facts.fps, long.facts.width, long.facts.height) == (65, FPS, 32, 32)


def test_all_four_ways_are_taken() -> None:
    rng = random.Random(0)
    scenes = [draw_motion_scene(rng) for _ in range(100)]
    ways = {(scene.motion.axis, scene.velocities[0] > 0) for scene in scenes}
    assert ways == set(itertools.product(AXES, (False, True)))
