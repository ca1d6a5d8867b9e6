"""Videos, frames and facts for tests of the negatives."""

from __future__ import annotations

import numpy as np
import torch

from datamodules.video.facts import VideoFacts
from datamodules.vista.facts import SampleFacts


def video(length: int, seed: int = 0, height: int = 6, width: int = 8) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (length, 3, height, width), dtype=np.uint8))


def facts(**changes: object) -> SampleFacts:
    base: dict[str, object] = {"key": "a", "video_id": "v", "video": VideoFacts(40, 10.0, 64, 48)}
    return SampleFacts(**(base | changes))  # type: ignore[arg-type]
