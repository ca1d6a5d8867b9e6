"""VBench's nine semantic dimensions (arXiv 2311.17982): rules on detections, captions and features of a video.

Detectors, captioners and classifiers are not part of this project; the rules are those of VBench 45e79ec1, oddities
included. VBench shows its networks 16 frames of a video (8 for both dimensions of ViCLIP, all for appearance style):
the middle ones of equal spans.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Literal

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from lightning_modules.losses.log_probs import at_least_float32

#: (x0, y0, x1, y1) in pixels.
Corners = Sequence[float]
Relation = Literal["on the left of", "on the right of", "on the top of", "on the bottom of"]

#: What a caption may call a colour.
COLORS = ("white", "red", "pink", "blue", "silver", "purple", "orange", "green", "gray", "yellow", "black", "grey")
#: Boxes that overlap more (intersection over union) count less.
LEAST_OVERLAP = 0.1
#: An action counts when it is among so many of the likeliest, and at least as probable as this.
TOP_ACTIONS, LEAST_PROBABILITY = 5, 0.85


def object_class(frames: Sequence[Collection[str]], target: str) -> list[bool]:
    """Whether each frame shows the object; the score of a folder is the share of all its videos' frames.

    Args:
        frames: the classes that are detected in each.
        target: a class.
    """
    return [target in classes for classes in frames]


def multiple_objects(frames: Sequence[Collection[str]], target: str) -> list[bool]:
    """Whether each frame shows both objects; the score of a folder is the share of all its videos' frames.

    Args:
        frames: the classes that are detected in each.
        target: two classes, "A and B".

    Raises:
        ValueError: not two.
    """
    names = [name.strip() for name in target.split(" and ")]
    if len(names) != 2:
        raise ValueError(f"{target!r} are not two objects: give 'A and B'")
    return [all(name in classes for name in names) for classes in frames]


def human_action(probabilities: Mapping[str, float], prompt: str) -> bool:
    """Whether the prompt's action is seen; the score of a folder is the share of its videos.

    It is when it is among the five likeliest, with a probability that rounds to 0.85 or more at four digits.

    Args:
        probabilities: Kinetics-400's action, in small letters -> the sigmoid of its logit; five at least.
        prompt: "A person is ACTION".
    """
    action = prompt.lower().split("-")[0].split("person is ")[-1].split("_")[0]
    likeliest = sorted(probabilities, key=probabilities.__getitem__, reverse=True)[:TOP_ACTIONS]
    return action in likeliest and round(probabilities[action], 4) >= LEAST_PROBABILITY


def color(frames: Sequence[Sequence[tuple[str, str]]], target: str, prompt: str) -> float | None:
    """The share of frames that show the object in its colour, of those that show it in any.

    The score of a folder is the mean over its videos that have one. Words are looked for as letters: "covered" is red.

    Args:
        frames: the (caption, class) of each detection. VBench's script puts the class of a frame's first detection
            beside all captions of that frame.
        target: a colour.
        prompt: "a COLOR OBJECT"; a class is the object when it is the same text.

    Returns:
        None where no frame shows the object in any colour: the video does not count.
    """
    # As published, which leaves nothing of "a " within a word either: "sofa bed" would become "sofbed".
    name = prompt.replace("a ", "").replace("an ", "").replace(target, "").strip()
    captions = [[caption for caption, detected in frame if detected == name] for frame in frames]
    colored = sum(any(word in caption for caption in frame for word in COLORS) for frame in captions)
    right = sum(any(target in caption for caption in frame) for frame in captions)
    return right / colored if colored else None


def spatial_relationship(
    frames: Sequence[Sequence[tuple[str, Corners]]], first: str, second: str, relation: Relation
) -> list[float]:
    """How well two objects are beside or above each other in each frame: the best of its pairs of boxes.

    The score of a folder is the mean over all its videos' frames. Which object is on which side does not matter, and
    two boxes of the same class are a pair, too.

    Args:
        frames: the (class, box) of each detection.
        first: a class.
        second: another one.
        relation: where the first should be.
    """
    pairs = [combinations([box for name, box in frame if name in (first, second)], 2) for frame in frames]
    return [max((box_relation(*pair, relation) for pair in frame), default=0.0) for frame in pairs]


def box_relation(box: Corners, other: Corners, relation: Relation) -> float:
    """1 for boxes in the relation, 0.1 / overlap where they overlap by more than 0.1, 0 for others.

    Args:
        box: (x0, y0, x1, y1).
        other: likewise.
        relation: left and right: the centres are further apart across than down; top and bottom: the reverse.

    Raises:
        ValueError: both boxes are without area, or there is no such relation.
    """
    # Twice the distance of the centres.
    across, down = (abs(other[axis] + other[axis + 2] - box[axis] - box[axis + 2]) for axis in (0, 1))
    if relation in ("on the left of", "on the right of"):
        holds = across > down
    elif relation in ("on the top of", "on the bottom of"):
        holds = down > across
    else:
        raise ValueError(f"{relation!r} is none of: on the left of, on the right of, on the top of, on the bottom of")
    overlap = _intersection_over_union(box, other)
    return float(holds) * (1.0 if overlap < LEAST_OVERLAP else LEAST_OVERLAP / overlap)


def _intersection_over_union(box: Corners, other: Corners) -> float:
    width, height = (max(0.0, min(box[axis + 2], other[axis + 2]) - max(box[axis], other[axis])) for axis in (0, 1))
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (box, other)]
    union = sum(areas) - width * height
    if union <= 0:
        raise ValueError(
            f"boxes {list(box)} and {list(other)} have no area: give (x0, y0, x1, y1) with x0 < x1, y0 < y1"
        )
    return width * height / union


def scene(captions: Sequence[str], target: str) -> list[bool]:
    """Whether each frame's caption has every word of the scene; the score of a folder is the share of all frames.

    Words are looked for as letters: "living" is in "people living here", and "room" in "bathroom".

    Args:
        captions: one a frame.
        target: "living room".
    """
    return [all(word in caption for word in target.split(" ")) for caption in captions]


def text_similarity(features_TD: ArrayLike | Tensor, text_D: ArrayLike | Tensor) -> list[float]:  # noqa: N803
    """The cosine of each row with a text: for appearance style, temporal style and overall consistency.

    Appearance style is CLIP ViT-B/32 of every frame with the style's name, and the score of a folder the mean over all
    its videos' frames. The others are ViCLIP of a video, one row, with its prompt, and the mean over videos.

    Args:
        features_TD: (T, D), of any length.
        text_D: (D,), of any length.
    """
    features, text = (at_least_float32(torch.as_tensor(values)) for values in (features_TD, text_D))
    cosines: list[float] = F.cosine_similarity(features, text[None], dim=-1).tolist()
    return cosines
