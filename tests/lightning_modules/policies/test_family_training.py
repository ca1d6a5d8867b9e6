"""Every video-language family in a step of VistaDPO, and one of each layout sharded over two processes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh

from callbacks.reference.cache_writer import ReferenceCacheWriter
from callbacks.reference.model import ReferenceModel
from datamodules.vista.samples import View
from lightning_modules.policies.sharding import full_state_dict, load_sharded
from lightning_modules.vista_dpo import VistaDPO
from tests.support.family_cases import FAMILIES, LORA, checkpoint, family_views, make_policy
from tests.support.pairs_harness import eleven_samples, pairs, trainer

pytestmark = pytest.mark.slow

#: One family of each layout.
SHARDED = {"packed": "qwen3_vl", "rows": "qwen3_5"}


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return eleven_samples(tmp_path_factory.mktemp("samples"))


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_step_of_vista_dpo_with_its_reference(kind: str, folder: Path, shards: Path, tmp_path: Path) -> None:
    """A fresh adapter is the reference, so every term starts at log 2; the step moves every adapter."""
    policy = make_policy(checkpoint(kind, folder), lora=LORA, activation_checkpointing=kind == "qwen2_5_vl")
    module = VistaDPO(policy, lambda parameters: torch.optim.SGD(parameters, lr=1e-2), warmup=0.0)
    run = trainer(tmp_path, max_steps=1, callbacks=[ReferenceModel()], limit_val_batches=0)
    run.fit(module, pairs(shards))
    terms = {name: float(value) for name, value in run.callback_metrics.items() if name.startswith("train/loss/")}
    assert {name.rpartition("/")[2] for name in terms} == {"response", "video", "clip", "object", "token"}
    assert all(value == pytest.approx(math.log(2), abs=1e-5) for value in terms.values())
    moved = {
        name: float(parameter.detach().abs().max())
        for name, parameter in policy.named_parameters()
        if "lora_B.default" in name
    }
    assert moved
    assert all(value > 0 for value in moved.values())


def test_a_cached_reference_of_another_pixel_budget_is_refused(folder: Path, shards: Path, tmp_path: Path) -> None:
    """The cache holds what the processor made of frames: other settings or other defaults make other tokens."""

    def module(**settings: Any) -> VistaDPO:
        return VistaDPO(make_policy(checkpoint("qwen2_5_vl", folder), lora=LORA, **settings), warmup=0.0)

    writer = ReferenceCacheWriter(str(tmp_path / "cache"))
    trainer(tmp_path, callbacks=[writer]).predict(module(), pairs(shards))
    cached = ReferenceModel("cached", str(tmp_path / "cache.index.json"))
    trainer(tmp_path, max_steps=1, callbacks=[cached], limit_val_batches=0).fit(module(), pairs(shards))
    other = module(max_pixels=28 * 28)
    run = trainer(tmp_path, max_steps=1, callbacks=[ReferenceModel("cached", str(tmp_path / "cache.index.json"))])
    with pytest.raises(ValueError, match=r"scores of other views: .*processor.max_pixels was 3136, is 784"):
        run.fit(other, pairs(shards))
    assert other.policy.model is None  # type: ignore[attr-defined]


def rank_views(rank: int) -> list[View]:
    """Other views, and another number of them, on each rank."""
    return family_views() if rank == 0 else family_views()[2:3]


def nudge(policy: Any) -> None:
    """Move what trains off its start, alike on all ranks and in one process."""
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.mul_(1.1).add_(0.02)


def gradients(policy: Any) -> dict[str, Tensor]:
    grads = {name: parameter.grad for name, parameter in policy.named_parameters() if parameter.grad is not None}
    return {
        name: (grad.full_tensor() if hasattr(grad, "full_tensor") else grad).clone() for name, grad in grads.items()
    }


def work(rank: int, folder: str, kinds: tuple[str, ...] = tuple(SHARDED.values())) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    for kind in kinds:
        torch.manual_seed(rank)
        policy = make_policy(Path(folder) / kind, lora=LORA, activation_checkpointing=True)
        load_sharded(policy, mesh)
        results: dict[str, Any] = {"start": full_state_dict(policy)}
        nudge(policy)
        views = rank_views(rank)
        encoded = policy.encode(views)
        with torch.no_grad(), policy.reference_mode():
            reference = policy(encoded).log_probs
        (policy(encoded).log_probs - reference * 0.5).square().mean().backward()
        results["gradients"] = gradients(policy)
        asked = views[: 1 + rank] if rank else views[:2]  # not as many on both
        results["answers"] = policy.generate(
            [view.prompt for view in asked], [view.frames for view in asked], 4, times=[view.times for view in asked]
        )
        policy.export(Path(folder) / f"{kind}-export")
        if rank == 0:
            torch.save(results, Path(folder) / f"{kind}.pt")
        dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes found."""
    folder = tmp_path_factory.mktemp("ranks")
    for kind in SHARDED.values():
        checkpoint(kind, folder)
    mp.spawn(work, (str(folder),), nprocs=2)
    return folder


@pytest.mark.parametrize("layout", SHARDED)
def test_two_processes_equal_one(layout: str, ranks: Path) -> None:
    kind = SHARDED[layout]
    results = torch.load(ranks / f"{kind}.pt")
    policy = make_policy(ranks / kind, lora=LORA)
    policy.load()
    policy.load_state_dict(results["start"])
    nudge(policy)
    assert policy._layout == layout
    losses = []
    for rank in range(2):
        encoded = policy.encode(rank_views(rank))
        with torch.no_grad(), policy.reference_mode():
            reference = policy(encoded).log_probs
        losses.append((policy(encoded).log_probs - reference * 0.5).square().mean())
    (sum(losses) / 2).backward()
    own = gradients(policy)
    assert own.keys() == results["gradients"].keys()
    for name, gradient in own.items():
        torch.testing.assert_close(
            results["gradients"][name], gradient, rtol=1e-4, atol=1e-4 * float(gradient.abs().max())
        )
    views = rank_views(0)[:2]
    asked = [view.prompt for view in views], [view.frames for view in views], 4
    assert results["answers"] == policy.generate(*asked, times=[view.times for view in views])
    again = make_policy(ranks / kind, adapter=str(ranks / f"{kind}-export"))
    again.load()
    with torch.no_grad():
        ours, theirs = (scorer.score(scorer.encode(views)).log_probs for scorer in (policy, again))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
