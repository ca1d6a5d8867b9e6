"""Scenes of coloured shapes and their rendering: frames, boxes, event spans and captions, all from one ground truth.

A scene has one or two events, one after the other. In an event one thing crosses the frame to the left or to the right,
at the top or at the bottom, and it is visible only then. Two things of one scene differ in colour
and shape, and go the same way at the same place, so that a model need not find out which of them did.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from math import ceil, floor
from typing import Literal

import numpy as np
import numpy.typing as npt

from datamodules.video.facts import VideoFacts
from datamodules.vista.samples import Box

Direction = Literal["left", "right"]
Place = Literal["top", "bottom"]
Frames = npt.NDArray[np.uint8]

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (230, 40, 40),
    "green": (40, 190, 60),
    "blue": (50, 80, 240),
    "yellow": (240, 220, 40),
    "purple": (180, 50, 200),
    "white": (245, 245, 245),
}
#: Colours of things that usually move alike: the first group to the left at the top, the second to the right at the
#: bottom. Within a group, the colour that is named earlier usually moves first.
USUAL_GROUPS: tuple[tuple[str, ...], ...] = (("red", "green", "blue"), ("yellow", "purple", "white"))
SHAPES: tuple[str, ...] = ("circle", "square", "triangle")
DIRECTIONS: tuple[Direction, ...] = ("left", "right")
PLACES: tuple[Place, ...] = ("top", "bottom")
SIZE = 48
FPS = 8.0
EVENT_FRAMES = 8
#: How much of its way a slow thing goes.
SLOW_WAY = 0.25
#: Things are drawn this many times larger and averaged, so that edges are smooth.
SUPERSAMPLING = 2


@dataclass(frozen=True, slots=True)
class Thing:
    """Coloured shape."""

    color: str
    shape: str

    def __str__(self) -> str:
        return f"{self.color} {self.shape}"


@dataclass(frozen=True, slots=True)
class Event:
    """Event: one thing crosses the frame.

    Attributes:
        thing: what moves.
        direction: to the left or to the right.
        place: in which half of the frame.
        radius: half the thing's width and height, pixels.
        y: the centre's height, pixels from the top.
        first_x: the centre in the event's first frame, pixels from the left.
        last_x: the centre in its last frame.
    """

    thing: Thing
    direction: Direction
    place: Place
    radius: float
    y: float
    first_x: float
    last_x: float

    @property
    def clause(self) -> str:
        """What happens, as a clause: "the red circle moves left at the top"."""
        return f"the {self.thing} moves {self.direction} at the {self.place}"

    def center(self, frame: int, num_frames: int = EVENT_FRAMES) -> tuple[float, float]:
        """The thing's centre (x, y) in a frame of the event, counted from 0, pixels."""
        return self.first_x + (self.last_x - self.first_x) * frame / (num_frames - 1), self.y


@dataclass(frozen=True, slots=True)
class Scene:
    """Ground truth of a video.

    Attributes:
        events: in their order.
        background: its grey level, 0 to 255.
        event_frames: frames of each event.
    """

    events: tuple[Event, ...]
    background: int
    event_frames: int = EVENT_FRAMES

    @property
    def facts(self) -> VideoFacts:
        """Frames, frames per second and size of the rendered video."""
        return VideoFacts(self.event_frames * len(self.events), FPS, SIZE, SIZE)

    def span(self, index: int) -> tuple[float, float]:
        """Start and end of an event, seconds."""
        return index * self.event_frames / FPS, (index + 1) * self.event_frames / FPS

    def boxes(self, index: int) -> tuple[Box, ...]:
        """The thing's box in every frame of an event: the whole pixels that it touches."""
        event, boxes = self.events[index], []
        for frame in range(self.event_frames):
            x, y = event.center(frame, self.event_frames)
            left, top = floor(x - event.radius), floor(y - event.radius)
            right, bottom = ceil(x + event.radius), ceil(y + event.radius)
            time = (index * self.event_frames + frame) / FPS
            boxes.append(Box(left, top, right - left, bottom - top, time))
        return tuple(boxes)

    @property
    def caption(self) -> str:
        """The whole video in one sentence."""
        first, *others = (event.clause for event in self.events)
        return f"First {first}, then {others[0]}." if others else f"{first[0].upper()}{first[1:]}."


def draw_scene(
    rng: random.Random,
    num_events: int = 2,
    prior: float | None = None,
    slow: float = 0.0,
    event_frames: int = EVENT_FRAMES,
) -> Scene:
    """A random scene of one or two events.

    Args:
        rng: the random numbers.
        num_events: 1 or 2.
        prior: how often direction, place and order are as usual of the colours, each drawn by itself (see
            `USUAL_GROUPS`); 0.5 makes the usual say nothing. None = all colours meet, and nothing is usual.
        slow: share of scenes whose things go only `SLOW_WAY` of their way across the frame, in the same time.
        event_frames: frames of each event, at least 2.

    Raises:
        ValueError: a share is none, or an event has too few frames.
    """
    if event_frames < 2:
        raise ValueError(f"event_frames is {event_frames}; give 2 or more, so that things can move")
    if not 0 <= slow <= 1:
        raise ValueError(f"slow is {slow}; give a share from 0 to 1")
    shapes = rng.sample(SHAPES, 2)
    if prior is None:
        colors = rng.sample(list(COLORS), 2)
        direction, place = rng.choice(DIRECTIONS), rng.choice(PLACES)
    else:
        if not 0 <= prior <= 1:
            raise ValueError(f"prior is {prior}; give a share from 0 to 1")
        group = rng.randrange(len(USUAL_GROUPS))
        # Things of one group only: the usual way and place of both are then the scene's.
        colors = sorted(rng.sample(USUAL_GROUPS[group], 2), key=USUAL_GROUPS[group].index)
        if rng.random() >= prior:
            colors.reverse()
        direction = DIRECTIONS[group if rng.random() < prior else 1 - group]
        place = PLACES[group if rng.random() < prior else 1 - group]
    things = [Thing(color, shape) for color, shape in zip(colors, shapes, strict=True)]
    events = tuple(draw_event(rng, thing, direction, place) for thing in things[:num_events])
    scene = Scene(events, rng.randint(0, 50), event_frames)
    # Drawn last: scenes without slow ones are the same as ever.
    return _slowed(scene, rng) if slow and rng.random() < slow else scene


def _slowed(scene: Scene, rng: random.Random) -> Scene:
    """The scene with a part of each way, somewhere on it."""
    events = []
    for event in scene.events:
        way = event.last_x - event.first_x
        first_x = event.first_x + rng.uniform(0, 1 - SLOW_WAY) * way
        events.append(replace(event, first_x=first_x, last_x=first_x + SLOW_WAY * way))
    return replace(scene, events=tuple(events))


def draw_event(rng: random.Random, thing: Thing, direction: Direction, place: Place) -> Event:
    """A random crossing of the frame: nearly its whole width, a little apart from its border."""
    radius = rng.uniform(7.0, 8.5)
    # Inside the frame in every frame of the event, so that a box is never cut.
    near, far = radius + rng.uniform(0.5, 4.0), SIZE - radius - rng.uniform(0.5, 4.0)
    first_x, last_x = (near, far) if direction == "right" else (far, near)
    depth = radius + rng.uniform(0.5, 5.0)
    return Event(thing, direction, place, radius, depth if place == "top" else SIZE - depth, first_x, last_x)


def render(scene: Scene) -> Frames:
    """The scene's video, (T, H, W, 3) uint8."""
    frames = np.full((scene.facts.frames, SIZE, SIZE, 3), scene.background, dtype=np.float32)
    for index, event in enumerate(scene.events):
        color = np.array(COLORS[event.thing.color], dtype=np.float32)
        centers = np.array([event.center(frame, scene.event_frames) for frame in range(scene.event_frames)])
        cover = _coverage(event.thing.shape, centers, event.radius)[..., None]
        span = slice(index * scene.event_frames, (index + 1) * scene.event_frames)
        frames[span] = frames[span] * (1 - cover) + color * cover
    return frames.round().astype(np.uint8)


def _coverage(shape: str, centers: npt.NDArray[np.float64], radius: float) -> npt.NDArray[np.float32]:
    """How much of each pixel a shape covers, (T, H, W) in 0..1, with the centres (T, 2) in pixels."""
    grid = (np.arange(SIZE * SUPERSAMPLING) + 0.5) / SUPERSAMPLING
    x = grid[None, None, :] - centers[:, 0, None, None]
    y = grid[None, :, None] - centers[:, 1, None, None]
    if shape == "circle":
        inside = x**2 + y**2 <= radius**2
    elif shape == "square":
        inside = (abs(x) <= radius) & (abs(y) <= radius)
    else:  # a triangle with its point at the top
        inside = (abs(y) <= radius) & (abs(x) <= (y + radius) / 2)
    # The mean over each pixel's finer grid.
    fine = inside.reshape(len(centers), SIZE, SUPERSAMPLING, SIZE, SUPERSAMPLING)
    cover: npt.NDArray[np.float32] = fine.mean(axis=(2, 4), dtype=np.float32)
    return cover
