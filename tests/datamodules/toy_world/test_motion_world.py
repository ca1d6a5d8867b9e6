"""Moving shapes on a torus: prompts and scenes say the same, and a shape is whole and where it should be."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

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
    MOTION_COLORS,
    NUM_FRAMES,
    SIZE,
    SPEEDS,
    MotionScene,
    ShapeMotion,
    coverage,
    draw_motion_scene,
    parse_motion,
    render_motion,
)
from datamodules.toy_world.render import COLORS, SHAPES, Thing

SEEDS = st.integers(0, 10**6)


def test_every_prompt_is_read_back_also_within_other_text() -> None:
    prompts = set()
    for color, shape, axis, speed in itertools.product(MOTION_COLORS, SHAPES, AXES, SPEEDS):
        motion = ShapeMotion(Thing(color, shape), axis, speed)
        assert parse_motion(str(motion)) == motion
        assert parse_motion(f"Frames of: {motion}. Which one?") == motion
        prompts.add(str(motion))
    assert len(prompts) == 90
    assert str(ShapeMotion(Thing("red", "circle"), "vertically", "fast")) == "a red circle moves vertically fast"


@pytest.mark.parametrize("text", ["", "a dog runs", "a white circle moves vertically fast", "a red circle moves"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="tells of no motion"):
        parse_motion(text)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.sampled_from(SPEEDS))
def test_a_shape_moves_as_told_and_comes_back_on_the_other_side(seed: int, speed: str) -> None:
    scene = draw_motion_scene(random.Random(seed), speed)  # type: ignore[arg-type]
    centers = scene.centers()
    assert scene.motion.speed == speed
    assert ((centers >= 0) & (centers < SIZE)).all()
    steps = np.diff(centers, axis=0) - np.array(scene.velocity)
    assert np.allclose(steps - SIZE * np.round(steps / SIZE), 0)
    moved = scene.velocity[0] or scene.velocity[1]
    assert abs(moved) * (NUM_FRAMES - 1) == pytest.approx({"slow": 16, "medium": 40, "fast": 88}[speed])


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_every_frame_shows_the_whole_shape_in_its_color(seed: int) -> None:
    scene = draw_motion_scene(random.Random(seed))
    frames = render_motion(scene)
    assert frames.shape == (NUM_FRAMES, SIZE, SIZE, 3)
    color = np.array(COLORS[scene.motion.thing.color]) - BACKGROUND
    shares = (frames.astype(float) - BACKGROUND) @ color / (color @ color)
    assert shares.sum(axis=(1, 2)) == pytest.approx(np.full(NUM_FRAMES, AREA), rel=0.05)
    # Only along its way may it be in two parts: at the edges beside it there is no more than a triangle's tip.
    along = 2 if scene.motion.axis == "horizontally" else 1
    assert shares.sum(axis=along)[:, [0, -1]].max() < 1.0


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_drawn_around_their_centre_of_mass(shape: str) -> None:
    pixels = np.arange(SIZE) + 0.5
    for center in ((16.0, 16.0), (15.3, 16.8)):
        cover = coverage(shape, np.array([center]))[0]
        assert (cover.sum(0) @ pixels / cover.sum(), cover.sum(1) @ pixels / cover.sum()) == pytest.approx(
            center, abs=0.1
        )


def test_shapes_differ() -> None:
    circle, square, triangle = (coverage(shape, np.array([(16.0, 16.0)]))[0] for shape in SHAPES)
    for first, second in ((circle, square), (circle, triangle), (square, triangle)):
        assert np.minimum(first, second).sum() / np.maximum(first, second).sum() < 0.9


def test_facts_and_speeds_of_a_scene() -> None:
    scene = MotionScene(ShapeMotion(Thing("red", "circle"), "horizontally", "fast"), (4.0, 16.0), -1)
    facts = scene.facts
    assert (facts.frames, facts.fps, facts.width, facts.height) == (33, FPS, 32, 32)
    later = replace(scene, start=(1.25, 16.0))
    assert np.array_equal(render_motion(scene)[1:], render_motion(later)[:-1])
    assert set(ADVERBS) == set(SPEEDS)


def test_all_four_ways_are_taken() -> None:
    rng = random.Random(0)
    scenes = [draw_motion_scene(rng) for _ in range(100)]
    assert {(scene.motion.axis, scene.sign) for scene in scenes} == {(axis, sign) for axis in AXES for sign in (-1, 1)}
