"""Wan on two gloo processes, with FSDP2 and with DDP, against one process without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy
from torch.nn.parallel import DistributedDataParallel

from lightning_modules.policies.euler import guided_sigmas
from lightning_modules.policies.flow_adapters import FlowLora
from lightning_modules.policies.sharding import full_state_dict, load_sharded
from lightning_modules.policies.wan import WanPolicy
from tests.support.tiny_wan import write_tiny_wan
from tests.support.wan_cases import LORA, PROMPT_LENGTH, noisy_batch, nudge, velocity_of

pytestmark = pytest.mark.slow

#: With a linear of the root group adapted too: there peft's own switch would stop adapters from training.
ROOT_LORA = FlowLora(r=4, alpha=12, targets=r"blocks\..*\.to_[qv]|proj_out")
SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {"lora": LORA, "activation_checkpointing": True},
    "lora in the root": {"lora": ROOT_LORA, "reference_adapter": True},
    "full": {"activation_checkpointing": True},
}


def build(path: str, name: str) -> WanPolicy:
    return WanPolicy(path, prompt_length=PROMPT_LENGTH, **SETTINGS[name])


def rank_loss(policy: Any, inner: WanPolicy, rank: int) -> Tensor:
    """A loss of policy and reference; another batch, of another size, on each rank."""
    batch = noisy_batch(2 - rank, seed=rank)
    with torch.no_grad(), inner.reference_mode():
        reference = policy(**batch)
    return (policy(**batch) - 0.5 * reference).square().mean()


def full(value: Any) -> Any:
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def gradients(policy: nn.Module) -> dict[str, Tensor]:
    return {
        name: full(parameter.grad).clone()
        for name, parameter in policy.named_parameters()
        if parameter.grad is not None
    }


def flags(policy: nn.Module) -> dict[str, bool]:
    return {name: parameter.requires_grad for name, parameter in policy.named_parameters()}


def sampled(policy: WanPolicy) -> Tensor:
    batch = noisy_batch(1)
    return policy.denoise(
        batch["noisy"], guided_sigmas(3, 1.0), batch["prompts"], (), 3.0, {"embeds": torch.ones(1, 24)}
    )


def sharded_work(path: str, name: str, folder: Path) -> dict[str, Any]:
    rank = dist.get_rank()
    torch.manual_seed(rank)
    policy = build(path, name)
    load_sharded(policy, init_device_mesh("cpu", (2,)))
    nudge(policy)
    results: dict[str, Any] = {"start": full_state_dict(policy), "buffers": dict(policy.named_buffers())}
    results["units"] = sum(isinstance(module, FSDPModule) for module in policy.modules())
    before = flags(policy)
    results["gradients"] = []
    for _ in range(2):
        policy.zero_grad()
        rank_loss(policy, policy, rank).backward()
        results["gradients"].append(gradients(policy))
    assert flags(policy) == before
    results["sampled"] = sampled(policy)
    results["trained"] = full_state_dict(policy, trained_only=True)
    policy.export(folder / name)
    return results


def replicated_work(path: str, name: str) -> dict[str, Tensor]:
    torch.manual_seed(0)
    policy = build(path, name)
    policy.load()
    nudge(policy)
    # Unused parameters would be an error here: everything that trains must get its gradient.
    replica = DistributedDataParallel(policy)
    rank_loss(replica, policy, dist.get_rank()).backward()
    return {"start": policy.state_dict(), "gradients": gradients(policy)}


def work(rank: int, folder: str, path: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    for name in SETTINGS:
        results = {"sharded": sharded_work(path, name, Path(folder)), "replicated": replicated_work(path, name)}
        if rank == 0:
            torch.save(results, Path(folder) / f"{name}.pt")
        dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_wan(tmp_path_factory.mktemp("wan"))


@pytest.fixture(scope="module")
def folder(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes found."""
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(work, (str(folder), str(path)), nprocs=2)
    return folder


@pytest.fixture(params=SETTINGS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def single(path: Path, name: str, start: dict[str, Tensor]) -> WanPolicy:
    """One process with the weights that the two started from."""
    policy = build(str(path), name)
    policy.load()
    policy.load_state_dict(start)
    return policy


def check_gradients(policy: WanPolicy, grads: dict[str, Tensor]) -> None:
    policy.zero_grad()
    ((rank_loss(policy, policy, 0) + rank_loss(policy, policy, 1)) / 2).backward()
    expected = gradients(policy)
    assert expected.keys() == grads.keys() == {name for name, on in flags(policy).items() if on}
    for key, grad in expected.items():
        torch.testing.assert_close(grads[key], grad, rtol=1e-4, atol=1e-5 * max(1.0, float(grad.abs().max())))


def test_shards_give_the_single_processs_gradients_and_videos(path: Path, folder: Path, name: str) -> None:
    results = torch.load(folder / f"{name}.pt")["sharded"]
    assert results["units"] == 1 + 2, "the root and each block"
    policy = single(path, name, results["start"])
    torch.testing.assert_close(dict(policy.named_buffers()), results["buffers"])
    for grads in results["gradients"]:
        check_gradients(policy, grads)
    assert results["trained"].keys() == {key for key, on in flags(policy).items() if on}
    torch.testing.assert_close(results["sampled"], sampled(policy), rtol=1e-4, atol=1e-4)


def test_replicas_give_the_single_processs_gradients(path: Path, folder: Path, name: str) -> None:
    results = torch.load(folder / f"{name}.pt")["replicated"]
    check_gradients(single(path, name, results["start"]), results["gradients"])


def test_the_export_of_shards_reads_back_equal(path: Path, folder: Path, name: str) -> None:
    expected = velocity_of(single(path, name, torch.load(folder / f"{name}.pt")["sharded"]["start"]))
    export = {"weights" if name == "full" else "adapter": str(folder / name)}
    again = WanPolicy(str(path), prompt_length=PROMPT_LENGTH, **export)
    again.load()
    torch.testing.assert_close(velocity_of(again), expected, rtol=1e-5, atol=1e-5)


def test_bfloat16_shards_reduce_in_float32(path: Path, tmp_path: Path) -> None:
    exact = WanPolicy(str(path), lora=LORA, prompt_length=PROMPT_LENGTH)
    exact.load()
    nudge(exact)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        policy = WanPolicy(str(path), lora=LORA, prompt_length=PROMPT_LENGTH, dtype="bfloat16")
        precision = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
        load_sharded(policy, init_device_mesh("cpu", (1,)), precision)
        nudge(policy)
        exact.load_state_dict(full_state_dict(policy))
        rank_loss(policy, policy, 0).backward()
        grads = gradients(policy)
    finally:
        dist.destroy_process_group()
    rank_loss(exact, exact, 0).backward()
    expected = gradients(exact)
    assert grads.keys() == expected.keys()
    assert {grad.dtype for grad in grads.values()} == {torch.float32}
    ours, theirs = (torch.cat([tree[key].flatten() for key in expected]) for tree in (grads, expected))
    assert torch.cosine_similarity(ours, theirs, dim=0) > 0.99
