"""What every test gets: one thread, fixed seeds, no network, no output."""

from __future__ import annotations

import logging
import os
import random

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

torch.set_num_threads(1)
for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
    logging.getLogger(name).setLevel(logging.ERROR)


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def pytest_configure(config: pytest.Config) -> None:
    """Say nothing of what only Lightning can mend."""
    config.addinivalue_line("filterwarnings", "ignore:.*LeafSpec.* is deprecated")
