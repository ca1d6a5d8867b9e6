"""What every test gets: one thread, fixed seeds, no network, no output."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Iterator

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
