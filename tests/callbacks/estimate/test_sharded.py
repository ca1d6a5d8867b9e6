"""A step under FSDP2, in a process group that is only pretended."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import pytest
import torch

from callbacks.estimate.assemble import on_other_number
from callbacks.estimate.batches import batch_of
from callbacks.estimate.estimator import SHARDED_PRECISION, Estimator
from callbacks.estimate.fakes import load_fake_sharded, pretended_group
from callbacks.estimate.step import StepCost, StepRun, step_cost
from callbacks.estimate.tracker import local
from datamodules.vista.vista_pairs import VistaPairs
from lightning_modules.policies.flow_adapters import FlowLora
from tests.callbacks.estimate.test_step import SIZES, dense, vista

pytestmark = pytest.mark.slow
DATA = VistaPairs(train="train.index.json", num_frames=2)


def sharded(module: Any, gpus: int) -> StepCost:
    """The cost of a sharded step on fake tensors."""
    return Estimator(module, DATA, "adapter").cost(SIZES, 1, gpus, sharded=True)


@pytest.mark.parametrize("make", [dense, vista])
def test_fake_shards_cost_what_real_ones_do(make: Any) -> None:
    options = {"activation_checkpointing": True, "dtype": "bfloat16"}
    fake, module = sharded(make(**options), 2), make(**options)
    policy: Any = module.policy
    with pretended_group(2):
        # Memory of no content, but real.
        load_fake_sharded(policy, nullcontext(), SHARDED_PRECISION)  # type: ignore[arg-type]
        with torch.no_grad():
            for tensor in (*policy.parameters(), *policy.buffers()):
                local(tensor).zero_()
        real = step_cost(module, batch_of(module, DATA, SIZES, 1), StepRun())
    assert asdict(fake) == asdict(real)


def test_shards_are_a_share_and_activations_are_not() -> None:
    # The rank divides by the number of GPUs, so that every shard has as much.
    lora = FlowLora(r=8, alpha=8)
    one = Estimator(dense(lora=lora), DATA, "adapter").cost(SIZES)
    two, eight = sharded(dense(lora=lora), 2), sharded(dense(lora=lora), 8)
    assert two.trained == one.trained / 2
    assert eight.optimizer == pytest.approx(one.optimizer / 8, rel=0.02)
    assert eight.weights == pytest.approx(one.weights / 8, rel=0.05)
    # Parameters are gathered in bfloat16: no float32 product is left.
    assert {work.dtype for work in eight.flops} == {"bfloat16"}
    scaled = on_other_number(eight, 8, 2)
    # A share of what is gathered from at the peak is there twice.
    assert scaled.peak.total == pytest.approx(two.peak.total, rel=0.02)
    assert scaled.weights == pytest.approx(two.weights, rel=0.05)


def test_no_process_group_is_left() -> None:
    sharded(dense(), 2)
    assert not torch.distributed.is_initialized()
