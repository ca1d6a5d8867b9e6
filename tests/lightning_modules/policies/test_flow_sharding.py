"""Families on two gloo processes against one: FSDP2, and DDP where ranks draw times of different experts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from datamodules.dense.inputs import Condition
from lightning_modules.policies.flow_adapters import FlowLora
from lightning_modules.policies.sharding import full_state_dict, load_sharded
from tests.support.tiny_flows import FAMILIES, FPS
from tests.support.wan_cases import nudge

pytestmark = pytest.mark.slow

SHARDED = ("ltx-image", "hunyuan15", "cogvideox-rotary", "cogvideox15", "wan21-image")
REPLICATED = ("wan-both", "hunyuan15")


def build(name: str, folder: Path) -> Any:
    family = FAMILIES[name]
    lora = FlowLora(r=4, alpha=12)
    return family.policy(str(folder / name), **family.settings, lora=lora, activation_checkpointing=True)


def inputs(name: str, policy: Any, rank: int) -> dict[str, Any]:
    """Another batch, of another size, on each rank; times of one expert alone."""
    count = 2 - rank
    generator = torch.Generator().manual_seed(rank)
    noisy = FAMILIES[name].noise(policy, seed=rank).repeat(count, 1, 1, 1, 1)
    image = states = None
    if policy.image_use != "none":
        frames = 1 if policy.image_use == "given" else noisy.shape[2]
        image = torch.randn(noisy.shape[1], frames, *noisy.shape[3:], generator=generator)
    if policy.attends_to_image:
        states = torch.randn(policy._codec.tower.shape, generator=generator)
    prompts = [
        {stream: torch.randn(shape[0] - rank, *shape[1:], generator=generator) for stream, shape in shapes.items()}
        for shapes in [policy.prompt_shapes] * count
    ]
    t = torch.tensor([0.95, 0.9][:count]) if rank == 0 else torch.tensor([0.3])
    return {
        "noisy": noisy,
        "t": t,
        "prompts": prompts,
        "conditions": [Condition(FPS, image, image_states=states)] * count,
    }


def loss(policy: Any, inner: Any, name: str, rank: int) -> Tensor:
    batch = inputs(name, inner, rank)
    with torch.no_grad(), inner.reference_mode():
        reference = policy(**batch)
    error: Tensor = (policy(**batch) - 0.5 * reference).square().mean()
    return error


def gradients(policy: nn.Module) -> dict[str, Tensor]:
    return {
        name: (weight.grad.full_tensor() if hasattr(weight.grad, "full_tensor") else weight.grad).clone()
        for name, weight in policy.named_parameters()
        if weight.grad is not None
    }


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    results: dict[str, Any] = {}
    for name in SHARDED:
        torch.manual_seed(rank)
        policy = build(name, Path(folder))
        load_sharded(policy, init_device_mesh("cpu", (2,)))
        nudge(policy)
        start = full_state_dict(policy)
        loss(policy, policy, name, rank).backward()
        results[f"{name} sharded"] = (start, gradients(policy))
    for name in REPLICATED:
        torch.manual_seed(0)
        policy = build(name, Path(folder))
        policy.load()
        nudge(policy)
        # Kept until after backward: its hooks go with it.
        replica = DistributedDataParallel(policy)
        loss(replica, policy, name, rank).backward()
        results[f"{name} replicated"] = (policy.state_dict(), gradients(policy))
    if rank == 0:
        torch.save(results, Path(folder) / "results.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes computed."""
    folder = tmp_path_factory.mktemp("ranks")
    for name in {*SHARDED, *REPLICATED}:
        FAMILIES[name].save(folder / name)
    mp.spawn(work, (str(folder),), nprocs=2)
    return folder


@pytest.mark.parametrize(
    "case", [*(f"{name} sharded" for name in SHARDED), *(f"{name} replicated" for name in REPLICATED)]
)
def test_two_processes_have_the_gradients_of_one(folder: Path, case: str) -> None:
    start, computed = torch.load(folder / "results.pt")[case]
    name = case.split()[0]
    policy = build(name, folder)
    policy.load()
    policy.load_state_dict(start)
    ((loss(policy, policy, name, 0) + loss(policy, policy, name, 1)) / 2).backward()
    expected = gradients(policy)
    assert expected.keys() == computed.keys()
    assert all(gradient.any() for gradient in computed.values()), "of both experts"
    for weight, gradient in expected.items():
        largest = max(1.0, float(gradient.abs().max()))
        torch.testing.assert_close(computed[weight], gradient, rtol=1e-4, atol=1e-5 * largest)
