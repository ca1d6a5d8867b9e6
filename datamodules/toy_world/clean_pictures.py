"""Which clean picture of a thing a frame resembles most, and how far from it the frame is.

A clean picture shows the thing of a prompt at some place of the torus, at some point of its swing. The nearest one is
searched by correlation, at every quarter of a pixel and at `STRETCHES` stretches.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from torch import Tensor

from datamodules.toy_world.motion_world import BACKGROUND, SIZE, SWING, Numbers, ShapeMotion, coverage
from datamodules.toy_world.render import COLORS, Thing

#: Parts of a pixel by which places differ, in either direction.
PARTS = 4
#: Stretches that are tried, evenly between the shortest and the longest.
STRETCHES = 9


@dataclass(frozen=True, slots=True)
class Match:
    """The nearest clean picture of each frame.

    Attributes:
        centers: (T, 2) where it has the thing's centre of mass, (x, y) pixels.
        distances: (T,) root mean square of frame minus picture, over that of picture minus plain background: 0 = clean,
            1 = as far as a plain background is.
    """

    centers: Numbers
    distances: Numbers


def nearest_clean(frames: Tensor, motion: ShapeMotion) -> Match:
    """The nearest clean picture of the prompt's thing for each frame.

    Args:
        frames: (T, 3, SIZE, SIZE) uint8.
        motion: what the prompt says.
    """
    seen = frames.permute(0, 2, 3, 1).numpy().astype(np.float32) - BACKGROUND
    color = np.array(COLORS[motion.thing.color], dtype=np.float32) - BACKGROUND
    brightness = float(color @ color)
    covers, spectra = _pictures(ShapeMotion(Thing("red", motion.thing.shape), motion.axis))
    energies = (covers**2).sum(axis=(1, 2)) * brightness
    total = (seen**2).sum(axis=(1, 2, 3))
    centers, distances = [], []
    for plane, energy in zip(np.fft.rfft2(seen @ color), total, strict=True):
        # |frame - picture|^2 = |frame|^2 + |picture|^2 - 2 frame . picture, the last for all places by one transform.
        overlap = np.fft.irfft2(plane * spectra, s=(SIZE, SIZE))
        squares = energies[:, None, None] - 2 * overlap
        picture, row, column = np.unravel_index(int(squares.argmin()), squares.shape)
        look = int(picture) % (PARTS * PARTS)
        centers.append((column + (look % PARTS) / PARTS, row + (look // PARTS) / PARTS))
        distances.append(max(0.0, float(energy + squares[picture, row, column])) / float(energies[picture]))
    return Match(np.array(centers) % SIZE, np.sqrt(np.array(distances)))


@lru_cache(maxsize=8)
def _pictures(motion: ShapeMotion) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.complex64]]:
    """Coverages (STRETCHES * PARTS^2, H, W) with the centre within the first pixel, and their conjugate spectra."""
    fractions = np.arange(PARTS) / PARTS
    stretches = np.linspace(1 - SWING, 1 + SWING, STRETCHES)
    grid = [(x, y, stretch) for stretch in stretches for y in fractions for x in fractions]
    places = np.array(grid)
    covers = coverage(motion, places[:, :2], places[:, 2])
    return covers, np.conj(np.fft.rfft2(covers)).astype(np.complex64)
