"""Facts of a video that are known before it is decoded, and faults of the fields of a row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """Fault of a row: which field, and why."""

    field: str
    why: str

    def __str__(self) -> str:
        return f"{self.field}: {self.why}"


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """Facts of a video: number of frames, frames per second, and size in pixels as shown."""

    frames: int
    fps: float
    width: int
    height: int

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.frames / self.fps

    def size_fault(self, width: int, height: int) -> str | None:
        """Why these facts cannot be of a video that is shown at this size; None = they can.

        Version 0.1.0 took all pixels for square: what it prepared of a video whose pixels are not has other sizes, and
        boxes that were measured in a picture of another shape.
        """
        if (width, height) == (self.width, self.height):
            return None
        return (
            f"is shown at {width} x {height}, the index says {self.width} x {self.height}, as it is stored or of "
            "another video; prepare it again, with boxes in pixels as shown"
        )
