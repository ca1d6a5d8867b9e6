"""Toy videos for generation: one coloured shape that moves along one axis at one speed, and a prompt that says so.

What leaves the frame at one edge comes back at the opposite one, so direction and speed hold for the whole video and
every segment shows as much motion as any other. Which of an axis' two ways it goes is left open, as prompts do: a small
model learns late to tell left from right. Across its way a shape keeps clear of the edges. Shapes have equal
areas, and are drawn around their centre of mass.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from math import pi, sqrt
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from datamodules.toy_world.render import COLORS, SHAPES, Frames, Thing
from datamodules.video.facts import VideoFacts

Axis = Literal["horizontally", "vertically"]
Speed = Literal["slow", "medium", "fast"]

SIZE = 32
FPS = 8.0
NUM_FRAMES = 33
BACKGROUND = 20
#: The circle's radius in pixels; the other shapes have its area.
RADIUS = 5.5
AREA = pi * RADIUS**2
#: Across its way a shape's centre stays this far from the edges: more than a triangle reaches from its centre of mass.
MARGIN = 9.5
#: Colours with a hue; white has none, which would make a measure of colour less sharp.
MOTION_COLORS: tuple[str, ...] = tuple(color for color in COLORS if color != "white")
#: Which coordinate of (x, y) changes; x goes rightwards and y downwards.
AXES: dict[Axis, int] = {"horizontally": 0, "vertically": 1}
#: The ways that a shape may take: leftwards, rightwards, upwards, downwards.
WAYS: tuple[tuple[Axis, Literal[-1, 1]], ...] = (
    ("horizontally", -1),
    ("horizontally", 1),
    ("vertically", -1),
    ("vertically", 1),
)
SPEEDS: tuple[Speed, ...] = get_args(Speed)
#: What a prompt calls a speed, and what it is, pixels per frame.
ADVERBS: dict[Speed, str] = {"slow": "slowly", "medium": "steadily", "fast": "fast"}
PIXELS_PER_FRAME: dict[Speed, float] = {"slow": 0.5, "medium": 1.25, "fast": 2.75}

_CHOICES = ["|".join(words) for words in (MOTION_COLORS, SHAPES, AXES, ADVERBS.values())]
_PROMPT = re.compile(r"\ba ({}) ({}) moves ({}) ({})\b".format(*_CHOICES))
_SPEED_OF = {adverb: speed for speed, adverb in ADVERBS.items()}


@dataclass(frozen=True, slots=True)
class ShapeMotion:
    """Content of a prompt: which thing moves along which axis at which speed."""

    thing: Thing
    axis: Axis
    speed: Speed

    def __str__(self) -> str:
        return f"a {self.thing} moves {self.axis} {ADVERBS[self.speed]}"


def parse_motion(text: str) -> ShapeMotion:
    """The motion that a text describes, in whichever of its sentences.

    Raises:
        ValueError: no sentence of the toy world in it.
    """
    match = _PROMPT.search(text)
    if match is None:
        raise ValueError(f"{text!r} tells of no motion; a prompt reads as 'a red circle moves vertically fast'")
    color, shape, axis, adverb = match.groups()
    return ShapeMotion(Thing(color, shape), axis, _SPEED_OF[adverb])  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class MotionScene:
    """Ground truth of a video.

    Attributes:
        motion: what its prompt says.
        start: where the centre is in the first frame, (x, y) pixels.
        sign: 1 = rightwards or downwards, -1 = leftwards or upwards.
    """

    motion: ShapeMotion
    start: tuple[float, float]
    sign: Literal[-1, 1] = 1

    @property
    def facts(self) -> VideoFacts:
        """Frames, frames per second and size of the rendered video."""
        return VideoFacts(NUM_FRAMES, FPS, SIZE, SIZE)

    @property
    def velocity(self) -> tuple[float, float]:
        """(x, y) pixels per frame."""
        step = self.sign * PIXELS_PER_FRAME[self.motion.speed]
        return (step, 0.0) if self.motion.axis == "horizontally" else (0.0, step)

    def centers(self, num_frames: int = NUM_FRAMES) -> npt.NDArray[np.float64]:
        """(T, 2) the centre (x, y) in each frame, pixels from the top left corner, in [0, SIZE)."""
        steps = np.arange(num_frames)[:, None] * np.array(self.velocity)
        centers: npt.NDArray[np.float64] = (np.array(self.start) + steps) % SIZE
        return centers


def draw_motion_scene(rng: random.Random, speed: Speed | None = None) -> MotionScene:
    """A random scene; of a given speed, or of any."""
    thing = Thing(rng.choice(MOTION_COLORS), rng.choice(SHAPES))
    axis, sign = rng.choice(WAYS)
    motion = ShapeMotion(thing, axis, rng.choice(SPEEDS) if speed is None else speed)
    along, across = rng.uniform(0, SIZE), rng.uniform(MARGIN, SIZE - MARGIN)
    return MotionScene(motion, (along, across) if axis == "horizontally" else (across, along), sign)


def render_motion(scene: MotionScene, num_frames: int = NUM_FRAMES) -> Frames:
    """The scene's video, (T, H, W, 3) uint8."""
    cover = coverage(scene.motion.thing.shape, scene.centers(num_frames))[..., None]
    color = np.array(COLORS[scene.motion.thing.color], dtype=np.float32)
    frames: Frames = (BACKGROUND + (color - BACKGROUND) * cover).round().astype(np.uint8)
    return frames


def coverage(shape: str, centers: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """How much of each pixel a shape covers, (T, H, W) in 0..1, with the centres of mass (T, 2) in pixels.

    It falls from 1 to 0 over one pixel across the outline, so that it changes smoothly with the centre.
    """
    pixels = np.arange(SIZE) + 0.5
    x = around(pixels[None, :] - centers[:, :1])[:, None, :]
    y = around(pixels[None, :] - centers[:, 1:])[:, :, None]
    if shape == "circle":
        outside = np.sqrt(x**2 + y**2) - RADIUS
    elif shape == "square":
        outside = np.maximum(abs(x), abs(y)) - RADIUS * sqrt(pi) / 2
    else:  # as wide as high, its centre of mass at two thirds of its height
        height = RADIUS * sqrt(2 * pi)
        sides = (2 * abs(x) - (y + height * 2 / 3)) / sqrt(5)
        outside = np.maximum(sides, y - height / 3)
    cover: npt.NDArray[np.float32] = (0.5 - outside).clip(0, 1).astype(np.float32)
    return cover


def around(offset: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Offsets in pixels taken the short way around the torus, [-SIZE / 2, SIZE / 2)."""
    short: npt.NDArray[np.float64] = (offset + SIZE / 2) % SIZE - SIZE / 2
    return short
