"""Perceptual hashes of videos, by which two files that show the same are known, whatever their size and compression."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from datamodules.video.codec import decode_frames, probe

#: Where in a video its frames are hashed, as shares of its length; away from titles and fades.
PLACES = (0.1, 0.3, 0.5, 0.7, 0.9)
#: A frame whose hashed picture varies less than this (standard deviation of 0 to 255) looks like any other flat one.
_FLAT = 2.0
_SIDE = 8

#: (len(PLACES),) uint64, and which of them are of frames that are not flat.
VideoHash = tuple[NDArray[np.uint64], NDArray[np.bool_]]


def video_hash(video: bytes | str | Path) -> VideoHash:
    """The hashes of a video's frames at `PLACES`, each 64 bits: is a pixel brighter than its right neighbour.

    Raises:
        ValueError: "undecodable ...".
    """
    count = probe(video).frames
    frames = decode_frames(video, [min(int(place * count), count - 1) for place in PLACES])
    hashed = [_frame_hash(frame) for frame in frames]
    return np.array([bits for bits, _ in hashed], dtype=np.uint64), np.array([varied for _, varied in hashed])


def _frame_hash(frame: Tensor) -> tuple[int, bool]:
    import cv2

    gray = cv2.cvtColor(frame.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, (_SIDE + 1, _SIDE), interpolation=cv2.INTER_AREA).astype(np.int16)
    bits = np.packbits((small[:, 1:] > small[:, :-1]).ravel())
    return int.from_bytes(bits.tobytes(), "big"), float(small.std()) >= _FLAT


def hash_distances(video: VideoHash, others: list[VideoHash]) -> NDArray[np.float64]:
    """How much a video differs from each of the others.

    Returns:
        (len(others),) the mean number of differing bits, of 64, over the frames that are flat in neither; infinite
        where fewer than two of them are left.
    """
    if not others:
        return np.zeros(0)
    bits, varied = (np.stack(part) for part in zip(*others, strict=True))
    differing = np.bitwise_count(bits ^ video[0]).astype(np.float64)
    # Flat frames have nearly the same hash, whatever video they are from.
    both = varied & video[1]
    counted = both.sum(1)
    mean: NDArray[np.float64] = (differing * both).sum(1) / np.maximum(counted, 1)
    return np.where(counted >= 2, mean, np.inf)
