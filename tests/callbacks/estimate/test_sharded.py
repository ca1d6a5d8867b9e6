"""A step under FSDP2, in a process group that is only pretended."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import pytest
import torch

from callbacks.estimate.assemble import on_other_number
from callbacks.estimate.batches import batch_of
from callbacks.estimate.estimator import SHARDED_PRECISION, Estimator, Sharding
from callbacks.estimate.fakes import load_fake_sharded, pretended_group
from callbacks.estimate.step import WAITING, StepCost, StepRun, step_cost
from callbacks.estimate.tracker import local
from datamodules.vista.vista_pairs import VistaPairs
from lightning_modules.policies.flow_adapters import FlowLora
from lightning_modules.strategies import AdapterFSDP
from tests.callbacks.estimate.test_step import SIZES, dense, vista

pytestmark = pytest.mark.slow
DATA = VistaPairs(train="train.index.json", num_frames=2)


def sharded(module: Any, gpus: int, **sharding: Any) -> StepCost:
    """The cost of a sharded step on fake tensors."""
    return Estimator(module, DATA, "adapter", sharding=Sharding(**sharding)).cost(SIZES, 1, gpus, sharded=True)


@pytest.mark.parametrize(("make", "replicas"), [(dense, 1), (vista, 1), (dense, 2)])
def test_fake_shards_cost_what_real_ones_do(make: Any, replicas: int) -> None:
    options = {"activation_checkpointing": True, "dtype": "bfloat16"}
    fake, module = sharded(make(**options), 2 * replicas, replicas=replicas), make(**options)
    policy: Any = module.policy
    with pretended_group(2 * replicas):
        # Memory of no content, but real; of several replicas a mesh of two dimensions.
        load_fake_sharded(policy, nullcontext(), SHARDED_PRECISION, replicas)  # type: ignore[arg-type]
        with torch.no_grad():
            for tensor in (*policy.parameters(), *policy.buffers()):
                local(tensor).zero_()
        earlier = Estimator(module, DATA, "adapter", sharding=Sharding(replicas=replicas))._earlier(policy)
        real = step_cost(module, batch_of(module, DATA, SIZES, 1), StepRun(earlier=earlier))
    assert asdict(fake) == asdict(real)
    assert fake.waiting > 0


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


def test_gradients_wait_whole_where_less_than_half_trains() -> None:
    module = dense()
    whole, shards = sharded(module, 4), sharded(module, 4, accumulation="sharded")
    # Of all that trains, in float32, beside the gradients' share that comes with the last micro-batch alone.
    trained = sum(weight.numel() for weight in loaded(dense()).trainable().values())
    assert (whole.waiting, shards.waiting) == (4 * trained, 0)
    assert whole.peaks["reference"] - shards.peaks["reference"] == whole.waiting - shards.gradients
    assert whole.peak.total > shards.peak.total
    # On another number of GPUs they are as large.
    assert on_other_number(whole, 4, 2).peak.parts[WAITING] == whole.peak.parts[WAITING] > 0
    assert sharded(dense(lora=None), 4).waiting == 0


def loaded(module: Any) -> Any:
    """A module with weights."""
    module.policy.load(meta=True)
    return module


def test_replicas_hold_the_shards_of_fewer_gpus() -> None:
    groups, one = sharded(dense(), 4, replicas=2), sharded(dense(), 2)
    names = ("weights", "trained", "gradients", "optimizer", "waiting")
    assert [getattr(groups, name) for name in names] == [getattr(one, name) for name in names]
    assert groups.peak.total == pytest.approx(one.peak.total, rel=0.02)


@pytest.mark.parametrize(("replicas", "nodes", "expected"), [(1, 2, 1), (2, 1, 2), ("nodes", 3, 3)])
def test_replicas_are_those_of_the_strategy(replicas: Any, nodes: int, expected: int) -> None:
    strategy = AdapterFSDP(param_dtype="bfloat16", replicas=replicas, accumulation="sharded")
    sharding = Sharding.of(strategy, nodes)
    assert (sharding.replicas, sharding.accumulation) == (expected, "sharded")
    assert sharding.precision == strategy.mixed_precision
    assert Sharding.of("ddp", nodes) == Sharding()


def test_no_process_group_is_left() -> None:
    sharded(dense(), 2)
    assert not torch.distributed.is_initialized()
