"""Random numbers that depend on a sample's key and nothing else."""

from __future__ import annotations

import hashlib
import json

import numpy as np


def generator(seed: int, key: str, purpose: str, epoch: int | None = None) -> np.random.Generator:
    """The random numbers of one purpose of one sample: the same in every process, on every machine, in any order.

    Args:
        seed: the run's seed.
        key: the sample's key.
        purpose: what is drawn ("clip/span"), so that the draws of one level do not move those of another.
        epoch: given where the draws differ from epoch to epoch.
    """
    # Not Python's `hash`, which differs from process to process.
    digest = hashlib.sha256(json.dumps([seed, key, purpose, epoch]).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))
