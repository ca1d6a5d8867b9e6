"""What every test gets: one thread, fixed seeds, no network, no output, and no waiting for what it does not test."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator
from functools import cache
from typing import Any

# Before transformers and wandb are imported anywhere.
os.environ.update(
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_VERBOSITY="error",
    TOKENIZERS_PARALLELISM="false",
    WANDB_MODE="offline",
    WANDB_SILENT="true",
)
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("VIDPREF_DEBUG", None)

import jsonargparse._typehints as typehints
import numpy as np
import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
# The same examples in every run: what fails here fails everywhere.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
    logging.getLogger(name).setLevel(logging.ERROR)


@pytest.fixture(scope="session", autouse=True)
def _no_flushes() -> Iterator[None]:
    """Without fsync a file still survives a killed process; only a power cut could show the difference, and no test.

    A flush takes milliseconds on a disk, and every shard and index makes several. Tests of the flushes themselves put
    their own in this place.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)
        yield


@pytest.fixture(scope="session", autouse=True)
def _protocols_once() -> Iterator[None]:
    """Whether a class implements a protocol never changes, and to find out is half the time of parsing a command."""
    find_out = typehints.implements_protocol
    known = cache(find_out)

    def implements_protocol(value: Any, protocol: Any) -> bool:
        return known(value, protocol) if isinstance(value, type) else find_out(value, protocol)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typehints, "implements_protocol", implements_protocol)
        yield


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """A command that ran in a test leaves Lightning's seed behind, and processes started later would take it over."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def pytest_configure(config: pytest.Config) -> None:
    """Say nothing of what only other libraries can fix, and of a fit without validation data."""
    config.addinivalue_line("filterwarnings", "ignore:.*LeafSpec.* is deprecated")
    config.addinivalue_line("filterwarnings", "ignore:.*gradient_checkpointing.* is deprecated:FutureWarning")
    config.addinivalue_line("filterwarnings", "ignore:Total length of .* across ranks is zero")
