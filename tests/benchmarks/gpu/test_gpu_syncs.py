"""Synchronisations are seen where they happen: on a GPU."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.step_clock import counted_syncs


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_reading_a_value_is_one_synchronisation() -> None:
    values, counts = torch.ones(4, device="cuda"), Counter[str]()
    with counted_syncs(counts, "cuda"):
        total = (values + 1).sum()
        assert float(total) == 8.0
    assert counts.total() == 1
    assert all(Path(__file__).name in place for place in counts)
    float(values[0])
    assert counts.total() == 1
