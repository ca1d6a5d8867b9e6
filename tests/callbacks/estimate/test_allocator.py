"""The tracker against the allocator's own events, on real tensors on a CPU."""

from __future__ import annotations

from typing import Any

import pytest
from torch.profiler import ProfilerActivity, profile

from callbacks.estimate.batches import Sizes, batch_of
from callbacks.estimate.step import StepRun, step_cost
from datamodules.vista.vista_pairs import VistaPairs
from tests.callbacks.estimate.test_step import dense, vista


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("make", [dense, vista])
def test_the_peak_is_that_of_the_allocator(make: Any, checkpointing: bool) -> None:
    """Resident memory is more: kernels' own scratch and freed memory that the process keeps are no tensor's."""
    module = make(activation_checkpointing=checkpointing)
    module.policy.load()
    sizes = Sizes(frames=17, height=64, width=64, question=40, answer=40)
    batch = batch_of(module, VistaPairs(train="train.index.json", num_frames=2), sizes, 2)
    profiler = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
    cost = step_cost(module, batch, StepRun(around=lambda: profiler))
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]  # type: ignore[union-attr]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    # What was there before the profiler began is in the parts, the rest was allocated under its eyes.
    assert len(events) > 1000
    assert cost.own == pytest.approx(peak, rel=0.01)
