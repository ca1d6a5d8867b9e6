"""Negatives of the object: the boxed frame with the object moved, masked, blurred or cut away.

Boxes are in pixels of the frame; a box's pixels are those of the released image rule: from int(x), int(y) up to, and
without, int(x + w), int(y + h), clipped to the frame, at least one pixel.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from datamodules.vista.facts import SampleFacts
from datamodules.vista.samples import Box


class PixelBox(NamedTuple):
    """Box of whole pixels: columns `left` to `right` and rows `top` to `bottom`, the last of each left out."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.bottom - self.top

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box in a (3, H, W) frame."""
        return slice(None), slice(self.top, self.bottom), slice(self.left, self.right)


def pixel_box(box: Box, width: int, height: int) -> PixelBox:
    """The pixels of a box in a frame of this size."""
    # A box may pass the border by less than a pixel, see `box_faults`.
    left, top = min(max(int(box.x), 0), width - 1), min(max(int(box.y), 0), height - 1)
    right, bottom = min(int(box.x + box.width), width), min(int(box.y + box.height), height)
    return PixelBox(left, top, max(right, left + 1), max(bottom, top + 1))


class ObjectNegative(ABC):
    """Negative of the object, f_l: what is shown instead of the frame with the object."""

    def available(self, facts: SampleFacts) -> bool:
        """Whether a sample can have this negative: it needs a box."""
        return bool(facts.boxes)

    @abstractmethod
    def make(self, frame: Tensor, boxes: Sequence[Box], random: np.random.Generator) -> Tensor:
        """The negative of a (3, H, W) uint8 frame, in the same shape; the input is left as it is.

        Args:
            frame: the frame that the boxes belong to.
            boxes: one or more boxes of the object.
            random: the draws of this sample for this purpose.
        """


class RoiMove(ObjectNegative):
    """The object at another place: the paper's best for the object.

    The box's content is pasted at a place drawn among those that are, in each axis, at least half of the largest
    displacement away that the frame allows; the hole is filled from the pixels around it. Of several boxes the first
    that has room moves. What is outside box and target stays as it is.

    Args:
        min_shift: a box has room when it is sure to move by this share of the frame in one axis (our choice). A
            sample whose boxes nearly fill the frame has no object term.
    """

    def __init__(self, min_shift: float = 0.05) -> None:
        if not 0.0 < min_shift <= 0.5:
            raise ValueError(f"RoiMove: min_shift is {min_shift}; give a share of the frame above 0 and at most 0.5")
        self.min_shift = min_shift

    def available(self, facts: SampleFacts) -> bool:
        """Whether a box of the sample's frame has room."""
        if not facts.boxes:
            return False
        return self._movable(facts.moment_boxes(), facts.video.width, facts.video.height) is not None

    def make(self, frame: Tensor, boxes: Sequence[Box], random: np.random.Generator) -> Tensor:
        """The frame with the box's content moved.

        Raises:
            ValueError: no box has room.
        """
        height, width = frame.shape[1:]
        source = self._movable(boxes, width, height)
        if source is None:
            raise ValueError("RoiMove: no box has room to move in its frame")
        left = _far_place(source.left, width - source.width, random)
        top = _far_place(source.top, height - source.height, random)
        target = PixelBox(left, top, left + source.width, top + source.height)
        # Content last: it is read from the untouched frame, and target and hole may overlap.
        moved = frame.clone()
        moved[source.slices] = _surroundings(frame, source)
        moved[target.slices] = frame[source.slices]
        return moved

    def _movable(self, boxes: Sequence[Box], width: int, height: int) -> PixelBox | None:
        """The first box that is sure to move far enough."""
        for source_box in boxes:
            box = pixel_box(source_box, width, height)
            across, down = _reach(box.left, width - box.width), _reach(box.top, height - box.height)
            # Half of the reach is the least that a draw moves it, see `_far_place`.
            if max(across / 2 / width, down / 2 / height) >= self.min_shift:
                return box
        return None


class RoiMask(ObjectNegative):
    """The object blacked out: ones outside the box, zeros inside, as the released code means (it blacks out all).

    Args:
        value: the level that fills the box, 0 to 255.
    """

    def __init__(self, value: int = 0) -> None:
        if not 0 <= value <= 255:
            raise ValueError(f"RoiMask: value is {value}; give a level from 0 to 255")
        self.value = value

    def make(self, frame: Tensor, boxes: Sequence[Box], random: np.random.Generator) -> Tensor:
        """The frame with every box filled; outside the boxes nothing changes."""
        masked = frame.clone()
        for box in boxes:
            masked[pixel_box(box, frame.shape[2], frame.shape[1]).slices] = self.value
        return masked


class RoiBlur(ObjectNegative):
    """The object blurred beyond recognition, with a Gaussian that sees only the box.

    Args:
        strength: the Gaussian's standard deviation as a share of the box's longer side (our choice).
    """

    def __init__(self, strength: float = 0.25) -> None:
        if strength <= 0:
            raise ValueError(f"RoiBlur: strength is {strength}; give a share of the box above 0")
        self.strength = strength

    def make(self, frame: Tensor, boxes: Sequence[Box], random: np.random.Generator) -> Tensor:
        """The frame with every box blurred; outside the boxes nothing changes."""
        import cv2

        blurred = frame.clone()
        for source_box in boxes:
            box = pixel_box(source_box, frame.shape[2], frame.shape[1])
            # In float32, which OpenCV blurs several times faster than bytes.
            content = blurred[box.slices].permute(1, 2, 0).float().numpy()
            sigma = self.strength * max(box.width, box.height)
            # Reflected at the box's border, so that nothing from outside bleeds into it.
            content = cv2.GaussianBlur(content, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
            blurred[box.slices] = torch.from_numpy(content.round()).permute(2, 0, 1).to(torch.uint8)
        return blurred


class RandomCrop(ObjectNegative):
    """A small random part of the frame, enlarged to the frame's size (the negative of mDPO).

    Args:
        scale: least and greatest share of the frame's area (mDPO: 0.01 to 0.2).
    """

    def __init__(self, scale: tuple[float, float] = (0.01, 0.2)) -> None:
        if not 0.0 < scale[0] <= scale[1] < 1.0:
            raise ValueError(f"RandomCrop: scale is {scale}; give two shares of the area, 0 < least <= greatest < 1")
        self.scale = scale

    def make(self, frame: Tensor, boxes: Sequence[Box], random: np.random.Generator) -> Tensor:
        """The enlarged part; its sides are 3:4 to 4:3 of the frame's."""
        height, width = frame.shape[1:]
        share = random.uniform(*self.scale)
        # Log-uniform, so that 3:4 and 4:3 are equally likely.
        stretch = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)) / 2)
        columns = min(max(round(width * math.sqrt(share) * stretch), 1), width)
        rows = min(max(round(height * math.sqrt(share) / stretch), 1), height)
        left, top = int(random.integers(width - columns + 1)), int(random.integers(height - rows + 1))
        part = frame[None, :, top : top + rows, left : left + columns].float()
        enlarged = F.interpolate(part, size=(height, width), mode="bilinear", align_corners=False)
        return enlarged[0].round().clamp(0, 255).to(torch.uint8)


def _reach(start: int, last: int) -> int:
    """The largest displacement of something at `start` that may be anywhere from 0 to `last`."""
    return max(start, last - start)


def _far_place(start: int, last: int, random: np.random.Generator) -> int:
    """A place from 0 to `last`, at least half of the largest displacement from `start`."""
    places = np.arange(last + 1)
    # Doubled rather than halved: whole numbers, which no rounding decides about.
    return int(random.choice(places[np.abs(places - start) * 2 >= _reach(start, last)]))


def _surroundings(frame: Tensor, box: PixelBox, ring: int = 5) -> Tensor:
    """(3, h, w) uint8 fill for a box: in its row and column, the pixels just outside, weighted by closeness.

    Each side gives the median of `ring` pixels, so that an object's rim that passes its box does not bleed into the
    hole. A side so near the frame's border that it has fewer counts only where all sides have fewer.
    """
    image: NDArray[np.float32] = frame.numpy().astype(np.float32)
    rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
    across, down = np.arange(1, box.width + 1), np.arange(1, box.height + 1)[:, None]
    # One band per side, as (pixels, distance, axis of its thickness).
    bands = (
        (image[:, rows, max(box.left - ring, 0) : box.left], across, 2),
        (image[:, rows, box.right : box.right + ring], across[::-1], 2),
        (image[:, max(box.top - ring, 0) : box.top, columns], down, 1),
        (image[:, box.bottom : box.bottom + ring, columns], down[::-1], 1),
    )
    total, weights = np.zeros((3, box.height, box.width), np.float32), np.zeros((box.height, box.width), np.float32)
    thickest = max(band.shape[axis] for band, _, axis in bands)
    for band, distance, axis in bands:
        if band.shape[axis] == thickest:
            weight = np.broadcast_to(1.0 / distance, weights.shape)
            total += np.median(band, axis=axis, keepdims=True) * weight
            weights += weight
    return torch.from_numpy((total / weights).round().astype(np.uint8))
