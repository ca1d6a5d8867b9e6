"""The latent space in which videos are stored, and how many frames and pixels fit into it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from operator import eq
from typing import Any

from datamodules.video.facts import VideoFacts


@dataclass(frozen=True, slots=True)
class LatentSpace:
    """Where latents live: two videos' latents can be compared, or trained on, only if all of this agrees.

    An autoencoder that only scales its latents by s has mean 0 and std 1 / s.

    Attributes:
        name: of the autoencoder's checkpoint or class.
        mean: of each latent channel, taken off before the transformer sees it.
        std: of each latent channel, divided by.
        temporal_ratio: frames per latent frame; r k + 1 frames become k + 1.
        spatial_ratio: pixels per latent, in each direction.
        weights: a mark of the autoencoder's weights, which says that two are not the same one; "" = not known.
        leading_frames: copies of the video's first latent frame before it, which a transformer needs whose tokens span
            several frames; they are no part of the video.
    """

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    temporal_ratio: int
    spatial_ratio: int
    weights: str = ""
    leading_frames: int = 0

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        # Without them a space is written as version 0.1.0 did, so that fingerprints stay as they were.
        if not self.leading_frames:
            del plain["leading_frames"]
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LatentSpace:
        """What `to_json` wrote.

        Raises:
            TypeError: an unknown or a missing field.
        """
        statistics = {name: tuple(float(value) for value in data[name]) for name in ("mean", "std") if name in data}
        return _shared(cls(**{**data, **statistics}))

    def shape(self, video: VideoFacts) -> tuple[int, int, int, int]:
        """(C, F, H, W) of the latents of a video."""
        frames = -(-(video.frames - 1) // self.temporal_ratio) + 1 + self.leading_frames
        return (len(self.mean), frames, video.height // self.spatial_ratio, video.width // self.spatial_ratio)

    def frames_fault(self, frames: int, period: int | None = None) -> str | None:
        """Why a number of frames cannot be encoded, with the nearest that can; None = it can.

        Args:
            frames: of a video.
            period: of which a multiple plus 1 is taken; None = the temporal ratio.
        """
        period = period or self.temporal_ratio
        if frames >= 1 and (frames - 1) % period == 0:
            return None
        below = max(frames - 1, 0) // period * period + 1
        nearest = str(below) if frames < 1 else f"{below} and {below + period}"
        return (
            f"{frames} frames are not a multiple of {period} plus 1, {period} k + 1, of which {self.name} makes "
            f"latents; nearest {'is' if frames < 1 else 'are'} {nearest}"
        )

    def faults_against(self, other: LatentSpace) -> list[str]:
        """How this space differs from another one, one line for each field; empty = they are one, as far as is known.

        Normalisation is compared up to rounding: it may have passed through another program's float32.
        """
        faults = []
        for attribute in fields(self):
            name = attribute.name
            mine, theirs = getattr(self, name), getattr(other, name)
            agree: Callable[[Any, Any], bool] = _AGREE.get(name, eq)
            if not agree(mine, theirs):
                faults.append(f"{name} {_short(mine)} is not {_short(theirs)}")
        return faults


@lru_cache
def _shared(space: LatentSpace) -> LatentSpace:
    """The same object for equal spaces: all rows of an index share it."""
    return space


def _close(first: Sequence[float], second: Sequence[float]) -> bool:
    return len(first) == len(second) and all(
        # float32 keeps seven digits; the statistics of another autoencoder differ far earlier.
        abs(a - b) <= 1e-5 * max(1.0, abs(a), abs(b))
        for a, b in zip(first, second, strict=True)
    )


#: How the fields of a latent space are compared that need not be equal.
_AGREE: dict[str, Callable[[Any, Any], bool]] = {
    "mean": _close,
    "std": _close,
    # A mark that is not known cannot differ.
    "weights": lambda first, second: first == second or not (first and second),
}


def _short(value: Any) -> str:
    if not isinstance(value, tuple):
        return repr(value)
    shown = ", ".join(f"{channel:g}" for channel in value[:4])
    return f"[{shown}{', ...' if len(value) > 4 else ''}] ({len(value)} channels)"
