"""The toy world's annotators look at compressed pixels; how near do they come to the truth?"""

from __future__ import annotations

import random
from functools import cache

import pytest
import torch
from torch import Tensor

from benchmarks.toy.vista.annotation import box_iou
from datamodules.toy_world.render import FPS, SHAPES, Scene, draw_scene, render
from datamodules.video.codec import decode_frames, encode_mp4
from datamodules.vista.samples import Box
from lightning_modules.annotators.spans import event_span
from lightning_modules.annotators.toy import ToyDetector, ToyScorer


@cache
def video(seed: int) -> tuple[Scene, Tensor]:
    scene = draw_scene(random.Random(seed))
    return scene, decode_frames(encode_mp4(render(scene), FPS), range(16))


SEEDS = range(8)


def test_boxes_are_near_the_true_ones_and_nowhere_else() -> None:
    ious, confidences = [], []
    for scene, frames in map(video, SEEDS):
        for index, event in enumerate(scene.events):
            found = ToyDetector().detect(frames, f"the {event.thing} there")
            for time, true in enumerate(scene.boxes(index), index * 8):
                box = found[time]
                assert box is not None
                ious.append(box_iou(Box(box.x, box.y, box.width, box.height), true))
                confidences.append(box.confidence)
            elsewhere = found[8:] if index == 0 else found[:8]
            assert max((box.confidence for box in elsewhere if box is not None), default=0.0) < 0.3
    assert sum(ious) / len(ious) > 0.88
    assert min(ious) > 0.5
    assert min(confidences) > 0.3


def test_another_shape_of_the_color_is_less_sure() -> None:
    for scene, frames in map(video, SEEDS):
        color, shape = scene.events[0].thing.color, scene.events[0].thing.shape
        means = {}
        for name in SHAPES:
            boxes = ToyDetector().detect(frames[:8], f"{color} {name}")
            means[name] = sum(0.0 if box is None else box.confidence for box in boxes) / 8
        assert means.pop(shape) > 0.5 > 2.5 * max(means.values())


@pytest.mark.parametrize("phrase", ["dog", "red", "circle", ""])
def test_what_the_toy_world_does_not_have_is_nowhere(phrase: str) -> None:
    assert ToyDetector().detect(video(0)[1], phrase) == [None] * 16


def test_the_span_of_what_a_text_names_first() -> None:
    for scene, frames in map(video, SEEDS):
        clauses = [event.clause for event in scene.events]
        scores = ToyScorer().score(frames, [f"{clauses[0]} before the {scene.events[1].thing}", clauses[1], "a dog"])
        assert event_span(scores[:, 0])[:2] == (0, 7)
        assert event_span(scores[:, 1])[:2] == (8, 15)
        assert torch.equal(scores[:, 2], torch.zeros(16))


def test_direction_and_place_count() -> None:
    scene, frames = video(3)
    event = scene.events[0]
    other = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}
    right = f"the {event.thing} moves {event.direction} at the {event.place}"
    texts = [
        right,
        f"the {event.thing} moves {other[event.direction]} at the {event.place}",
        f"the {event.thing} moves {event.direction} at the {other[event.place]}",
        f"the {event.thing}",
    ]
    assert ToyScorer().score(frames[2:6], texts).mean(dim=0).tolist() == [8, 4, 4, 4]
