"""How much fits: the largest batch and the longest video, by lines through two estimates each."""

from __future__ import annotations

from dataclasses import dataclass

from callbacks.estimate.step import StepCost


@dataclass(frozen=True, slots=True)
class Line:
    """Memory against a size, phase by phase: each phase's memory grows by a constant a unit.

    Attributes:
        small: size -> the cost there.
        large: likewise, at a larger size.
    """

    small: tuple[int, StepCost]
    large: tuple[int, StepCost]

    def bytes_at(self, size: int) -> float:
        """The peak at a size."""
        (low, small), (high, large) = self.small, self.large
        share = (size - low) / (high - low)
        return max(small.peaks[phase] + share * (large.peaks[phase] - small.peaks[phase]) for phase in small.peaks)

    def largest(self, memory: float, step: int = 1) -> int | None:
        """The largest size whose peak is within `memory` bytes, in steps from the smaller one; None = not even one.

        Args:
            memory: bytes.
            step: between sizes, of which the smaller size is one.
        """
        low = self.small[0]
        slopes = [
            (self.small[1].peaks[phase], self.large[1].peaks[phase] - self.small[1].peaks[phase])
            for phase in self.small[1].peaks
        ]
        units = self.large[0] - low
        room = min((memory - start) / change * units for start, change in slopes if change > 0)
        size = low + int(room // step) * step
        return size if size > 0 and max(start for start, _ in slopes) > 0 and self.bytes_at(size) <= memory else None
