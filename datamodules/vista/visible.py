"""What a policy sees of a source frame, and a sample as it is seen.

A policy's processor may cut a frame's borders away. Boxes and object negatives are decided within the part that is
left: an object that is moved, masked or blurred outside of it would look the same, or appear in the negative alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from datamodules.vista.facts import SampleFacts
from datamodules.vista.object_negatives import PixelBox
from datamodules.vista.samples import Box

#: (height, width) of a source frame -> the part of it that is seen, in source pixels.
VisibleRule = Callable[[int, int], Box]

#: A box of which less is seen takes no part (our choice).
LEAST_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class VisibleRegions:
    """The cropped frame sizes of a data set with what a policy sees of each; sizes that are not listed are seen whole.

    Plain data, so that it travels to worker processes, which a policy cannot.

    Attributes:
        regions: (height, width) -> the pixels that are seen whole.
        frame_fit: how frames meet the tower, see `VideoLLM`.
    """

    regions: Mapping[tuple[int, int], PixelBox] = field(default_factory=dict)
    frame_fit: str = "processor"

    @classmethod
    def of(cls, visible: VisibleRule, frame_fit: str, samples: Iterable[SampleFacts]) -> VisibleRegions:
        """The regions of all frame sizes that samples with boxes have.

        Args:
            visible: the policy's rule.
            frame_fit: the policy's, for the fingerprint.
            samples: of the data set, in any order.
        """
        sizes = sorted({_size(facts) for facts in samples if facts.boxes})
        regions = {size: _whole_pixels(visible(*size), *size) for size in sizes}
        cropped = {size: seen for size, seen in regions.items() if (seen.height, seen.width) != size}
        return cls(cropped, frame_fit)

    def region(self, facts: SampleFacts) -> PixelBox | None:
        """The visible pixels of a sample's frames; None = the whole frame."""
        return self.regions.get(_size(facts))

    def seen(self, facts: SampleFacts) -> SampleFacts:
        """A sample as the policy sees it: the size of the region, and the boxes in its pixels.

        A box of which less than half is visible is left out, and with it the moments at which there is no other.
        """
        region = self.region(facts)
        if region is None:
            return facts
        boxes = tuple(
            replace(box, x=box.x - region.left, y=box.y - region.top)
            for box in facts.boxes
            if _visible_share(box, region, facts) >= LEAST_SHARE
        )
        return replace(facts, video=replace(facts.video, width=region.width, height=region.height), boxes=boxes)

    def describe(self) -> dict[str, Any]:
        """What of the object views depends on the policy, in plain types; empty where every boxed frame is whole."""
        regions = {f"{width}x{height}": list(region) for (height, width), region in self.regions.items()}
        return {"visible": regions} if regions else {}

    def remark(self, samples: Iterable[SampleFacts]) -> str | None:
        """One sentence about the samples whose boxes the policy does not see; None where there are none."""
        boxed = [facts for facts in samples if facts.boxes]
        hidden = [facts.key for facts in boxed if not self.seen(facts).boxes]
        if not hidden:
            return None
        return (
            f"{len(hidden)} of {len(boxed)} samples with boxes take no part in the object term: the policy's processor "
            f"crops frames, and less than half of each box is left (the first is {hidden[0]!r}). Where the "
            "policy has it, policy.frame_fit squash or pad shows whole frames"
        )


#: Every frame is seen whole.
WHOLE_FRAMES = VisibleRegions()


def _size(facts: SampleFacts) -> tuple[int, int]:
    return facts.video.height, facts.video.width


def _whole_pixels(seen: Box, height: int, width: int) -> PixelBox:
    """The pixels that lie in a region entirely, at least one."""
    # A crop is computed in the resized frame; rounding on the way back must not cost a pixel.
    left, top = max(math.ceil(seen.x - 1e-6), 0), max(math.ceil(seen.y - 1e-6), 0)
    right = min(math.floor(seen.x + seen.width + 1e-6), width)
    bottom = min(math.floor(seen.y + seen.height + 1e-6), height)
    return PixelBox(left, top, max(right, left + 1), max(bottom, top + 1))


def _visible_share(box: Box, region: PixelBox, facts: SampleFacts) -> float:
    """The share of a box's area within its frame that lies in the region, too."""

    def overlap(left: float, top: float, right: float, bottom: float) -> float:
        across = min(box.x + box.width, right) - max(box.x, left)
        return max(across, 0.0) * max(min(box.y + box.height, bottom) - max(box.y, top), 0.0)

    return overlap(*region) / overlap(0, 0, facts.video.width, facts.video.height)
