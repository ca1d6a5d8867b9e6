"""The toy world's annotators: they look at pixels, at colour, outline and motion, and know no ground truth."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.toy_world.render import COLORS, DIRECTIONS, PLACES, SHAPES
from lightning_modules.annotators.base import Detection, FrameScorer, ObjectDetector

_THING = re.compile(rf"\b({'|'.join(COLORS)}) ({'|'.join(SHAPES)})\b")
#: The share of its box that each shape fills when it is drawn with some 15 pixels, and how far from it it is another.
_FILL = {"circle": 0.79, "square": 0.99, "triangle": 0.57}
_FILL_WIDTH = 0.2
#: How much of a pixel a thing covers from where on the pixel belongs to its box: it must show through the compression.
_COVER = 0.15
#: How far, of 255, a pixel may be from a mixture of background and colour.
_TOLERANCE = 70.0
#: The same where a pixel is more than half covered, so that blur says little: other colours are farther off.
_CORE_TOLERANCE = 60.0
#: How many pixels beside those a thing only touches.
_EDGE = 2
#: Fewer pixels are noise.
_LEAST_PIXELS = 20


class ToyDetector(ObjectDetector):
    """Object detector of the toy world: the box around the pixels of the phrase's colour.

    Confidence says how well the outline within the box fits the phrase's shape: a red square is no red circle.
    """

    @property
    def name(self) -> str:
        """Who proposes."""
        return "toy"

    def detect(self, frames: Tensor, phrase: str) -> list[Detection | None]:
        """The box in each frame; a phrase without a colour and a shape of the toy world is in none."""
        thing = _THING.search(phrase)
        if thing is None:
            return [None] * len(frames)
        return [_located(frame, thing[1], thing[2]) for frame in frames.float().cpu()]


class ToyScorer(FrameScorer):
    """Frame scorer of the toy world: is the thing that a text names first to be seen, there and going that way?"""

    @property
    def name(self) -> str:
        """Who scores."""
        return "toy"

    def score(self, frames: Tensor, texts: Sequence[str]) -> Tensor:
        """(T, N): 4 where the thing is, and 2 more or less for a direction and for a place that are right or wrong."""
        return torch.stack([self._scores(frames, text) for text in texts], dim=1)

    def _scores(self, frames: Tensor, text: str) -> Tensor:
        scores = torch.zeros(len(frames))
        thing = _THING.search(text)
        if thing is None:
            return scores
        claim = _Claim.of(text[thing.end() :])
        boxes = ToyDetector().detect(frames, thing[0])
        # A thing is visible when its outline fits; where it moves is seen against the frame before or behind.
        seen = {index: box for index, box in enumerate(boxes) if box is not None and box.confidence > 0.3}
        for index, box in seen.items():
            later, earlier = seen.get(index + 1, box), seen.get(index - 1, box)
            moved = later.x + later.width / 2 - earlier.x - earlier.width / 2
            middle = box.y + box.height / 2 - frames.shape[2] / 2
            scores[index] = 4 + 2 * (claim.agrees("right", "left", moved) + claim.agrees("bottom", "top", middle))
        return scores


@dataclass(frozen=True, slots=True)
class _Claim:
    """The words that a text says of a thing."""

    words: frozenset[str]

    @classmethod
    def of(cls, text: str) -> _Claim:
        return cls(frozenset(re.findall(r"\w+", text)) & {*DIRECTIONS, *PLACES})

    def agrees(self, positive: str, negative: str, measured: float) -> int:
        """1 where what is measured has the sign that the text says, -1 where not, 0 where it says nothing."""
        if (positive in self.words) == (negative in self.words) or not measured:
            return 0
        return 1 if (measured > 0) == (positive in self.words) else -1


def _located(frame: Tensor, color: str, shape: str) -> Detection | None:
    """The box of a coloured shape in a frame (3, H, W) float; None where there is too little of the colour."""
    background = frame.flatten(1).median(dim=1).values[:, None, None]
    step = torch.tensor(COLORS[color], dtype=torch.float32)[:, None, None] - background
    # Every pixel is a mixture of background and colour: how much of the colour, and how far off is it?
    cover = ((frame - background) * step).sum(0) / (step**2).sum()
    rest = (frame - background - cover * step).norm(dim=0)
    covered = (cover >= _COVER) & (rest <= _TOLERANCE)
    # The outline is that of the pixels that are more than half covered: colours are blurred by the compression.
    core = (cover >= 0.5) & (rest <= _CORE_TOLERANCE)
    if int(core.sum()) < _LEAST_PIXELS:
        return None
    left, top, right, bottom = _border(core)
    filled = float(core[top:bottom, left:right].float().mean())
    confidence = max(0.0, 1 - abs(filled - _FILL[shape]) / _FILL_WIDTH)
    # The box goes on to the pixels beside the core that the thing only touches.
    near = torch.zeros_like(covered)
    near[max(top - _EDGE, 0) : bottom + _EDGE, max(left - _EDGE, 0) : right + _EDGE] = True
    left, top, right, bottom = _border(covered & near)
    return Detection(left, top, right - left, bottom - top, confidence)


def _border(covered: Tensor) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the True pixels of (H, W), the last two behind them."""
    rows, columns = covered.any(dim=1).nonzero(), covered.any(dim=0).nonzero()
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
