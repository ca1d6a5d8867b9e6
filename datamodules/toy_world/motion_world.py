"""Toy videos for generation: one coloured shape that moves along one axis, and a prompt that says so but not how fast.

Speeds are broad, every second has a speed of its own and may turn, and the shape stretches and shrinks with the way
that it has travelled, as limbs swing with a stride: what is fast changes more from frame to frame and is harder to
model. So independent samples of one prompt differ in motion, and those that move less have fewer artifacts: the
conditions under which the DenseDPO paper finds that preferences favour slow videos (its section 3).

What leaves the frame at one edge comes back at the opposite one, so a second's motion never ends at a wall. Across its
way a shape keeps clear of the edges. Shapes have equal areas, and are drawn around their centre of mass.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from math import exp, log, pi, sqrt
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from datamodules.toy_world.render import COLORS, SHAPES, Frames, Thing
from datamodules.video.facts import VideoFacts

Axis = Literal["horizontally", "vertically"]
Speed = Literal["slow", "medium", "fast"]
Numbers = npt.NDArray[np.float64]

SIZE = 32
FPS = 8.0
NUM_FRAMES = 33
#: Frames of a second; the video's last frame ends its last second.
SECOND = 8
BACKGROUND = 20
#: The circle's radius in pixels; the other shapes have its area.
RADIUS = 5.5
AREA = pi * RADIUS**2
#: Across its way a shape's centre stays this far from the edges: more than a triangle reaches from its centre of mass.
MARGIN = 9.5
#: One that stands out less would make a measure of colour less sharp.
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
#: What a prompt may call a speed, and what it is, pixels per frame. Drawn scenes leave it out.
ADVERBS: dict[Speed, str] = {"slow": "slowly", "medium": "steadily", "fast": "fast"}
PIXELS_PER_FRAME: dict[Speed, float] = {"slow": 0.5, "medium": 1.25, "fast": 2.75}
#: A video's speed is exponential with this mean, cut at the cap: pixels per frame.
MEAN_SPEED, SPEED_CAP = 1.2, 4.0
#: Standard deviation of the logarithm of a second's speed about its video's, and the chance that a second turns.
SECOND_SPREAD, TURN = 0.4, 0.25
#: Along its way a shape is longer or shorter by this share, once in so many pixels of its way; its area stays.
SWING, STRIDE = 0.25, 12.0

_CHOICES = ["|".join(words) for words in (MOTION_COLORS, SHAPES, AXES, ADVERBS.values())]
_PROMPT = re.compile(r"\ba ({}) ({}) moves ({})(?: ({}))?\b".format(*_CHOICES))
_SPEED_OF = {adverb: speed for speed, adverb in ADVERBS.items()}


@dataclass(frozen=True, slots=True)
class ShapeMotion:
    """What a prompt says: which thing moves along which axis, and, where it has an adverb, at which speed."""

    thing: Thing
    axis: Axis
    speed: Speed | None = None

    def __str__(self) -> str:
        adverb = f" {ADVERBS[self.speed]}" if self.speed else ""
        return f"a {self.thing} moves {self.axis}{adverb}"


def parse_motion(text: str) -> ShapeMotion:
    """The motion that a text describes, wherever it is in the text.

    Raises:
        ValueError: no sentence of the toy world in it.
    """
    match = _PROMPT.search(text)
    if match is None:
        raise ValueError(f"{text!r} describes no motion; a prompt reads as 'a red circle moves vertically'")
    color, shape, axis, adverb = match.groups()
    return ShapeMotion(Thing(color, shape), axis, _SPEED_OF.get(adverb))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class MotionScene:
    """One video's ground truth.

    Attributes:
        motion: what its prompt says.
        start: where the centre is in the first frame, (x, y) pixels.
        velocities: of each second along the prompt's axis, pixels per frame; above 0 = rightwards or downwards. The
            last one holds for as long as the video lasts.
        stride: how far through its swing the shape is in the first frame, pixels.
        num_frames: of the video.
    """

    motion: ShapeMotion
    start: tuple[float, float]
    velocities: tuple[float, ...]
    stride: float = 0.0
    num_frames: int = NUM_FRAMES

    @property
    def facts(self) -> VideoFacts:
        """Frames, frames per second and size of the rendered video."""
        return VideoFacts(self.num_frames, FPS, SIZE, SIZE)

    @property
    def speed(self) -> float:
        """Mean over seconds of the pixels per frame, either way."""
        return sum(map(abs, self.velocities)) / len(self.velocities)

    def travelled(self) -> tuple[Numbers, Numbers]:
        """Net way along the axis since the first frame, and way travelled to and fro, (T,) pixels each."""
        seconds = np.minimum(np.arange(self.num_frames - 1) // SECOND, len(self.velocities) - 1)
        steps = np.array(self.velocities)[seconds]
        return np.concatenate([[0.0], np.cumsum(steps)]), np.concatenate([[0.0], np.cumsum(abs(steps))])

    def centers(self) -> Numbers:
        """(T, 2) the centre (x, y) in each frame, pixels from the top left corner, in [0, SIZE)."""
        way = np.zeros((self.num_frames, 2))
        way[:, AXES[self.motion.axis]] = self.travelled()[0]
        centers: Numbers = (np.array(self.start) + way) % SIZE
        return centers


def draw_motion_scene(rng: random.Random, speed: Speed | None = None, num_frames: int = NUM_FRAMES) -> MotionScene:
    """A random scene: of any speed with a prompt that names none, or of a given speed, the same in every second.

    Equal draws give the same first seconds, however long the video is.
    """
    thing = Thing(rng.choice(MOTION_COLORS), rng.choice(SHAPES))
    axis, sign = rng.choice(WAYS)
    along, across = rng.uniform(0, SIZE), rng.uniform(MARGIN, SIZE - MARGIN)
    start = (along, across) if axis == "horizontally" else (across, along)
    stride = rng.uniform(0, STRIDE)
    if speed is not None:
        return MotionScene(
            ShapeMotion(thing, axis, speed), start, (sign * PIXELS_PER_FRAME[speed],), stride, num_frames
        )
    # The inverse of an exponential distribution's share below the cap.
    mean = -MEAN_SPEED * log(1 - rng.random() * (1 - exp(-SPEED_CAP / MEAN_SPEED)))
    velocities = []
    for second in range(max(1, (num_frames - 1) // SECOND)):
        if second and rng.random() < TURN:
            sign = -sign
        velocities.append(sign * min(SPEED_CAP, mean * exp(rng.gauss(0, SECOND_SPREAD))))
    return MotionScene(ShapeMotion(thing, axis), start, tuple(velocities), stride, num_frames)


def render_motion(scene: MotionScene) -> Frames:
    """The scene's video, (T, H, W, 3) uint8."""
    phases = (scene.stride + scene.travelled()[1]) / STRIDE
    stretches = 1 + SWING * np.sin(2 * np.pi * phases)
    cover = coverage(scene.motion, scene.centers(), stretches)[..., None]
    color = np.array(COLORS[scene.motion.thing.color], dtype=np.float32)
    frames: Frames = (BACKGROUND + (color - BACKGROUND) * cover).round().astype(np.uint8)
    return frames


def coverage(motion: ShapeMotion, centers: Numbers, stretches: Numbers) -> npt.NDArray[np.float32]:
    """How much of each pixel the shape covers, (T, H, W) in 0..1.

    It falls from 1 to 0 over about one pixel across the outline, so that it changes smoothly with the centre.

    Args:
        motion: which shape, and the axis along which it stretches.
        centers: (T, 2) its centres of mass, pixels.
        stretches: (T,) its length along that axis, as a share of the unstretched one; its width is the inverse.
    """
    pixels = np.arange(SIZE) + 0.5
    offsets = [around(pixels - centers[:, axis, None]) for axis in (0, 1)]
    stretch = stretches[:, None]
    along = AXES[motion.axis]
    # What is drawn is the unstretched shape at coordinates that are stretched the other way.
    offsets[along], offsets[1 - along] = offsets[along] / stretch, offsets[1 - along] * stretch
    x, y = offsets[0][:, None, :], offsets[1][:, :, None]
    shape = motion.thing.shape
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


def around(offset: Numbers) -> Numbers:
    """Offsets in pixels taken the short way around the torus, [-SIZE / 2, SIZE / 2)."""
    short: Numbers = (offset + SIZE / 2) % SIZE - SIZE / 2
    return short
