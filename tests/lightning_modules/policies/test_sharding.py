"""Two gloo processes with FSDP2 against one process without."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy

from datamodules.vista.samples import View
from lightning_modules.policies.adapters import LANGUAGE_LINEARS, LoraSettings, snapshot_reference
from lightning_modules.policies.sharding import full_state_dict, load_sharded, mixed_precision, shard
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from tests.support.tiny_video_llava import NUM_FRAMES

pytestmark = pytest.mark.slow

LORA = LoraSettings(r=4, alpha=12)
KEEP = [("original", "chosen")]
SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {"lora": LORA, "activation_checkpointing": True},
    # Adapters in the root group, where peft's own switch would stop them from training.
    "lora in the root": {
        "lora": LoraSettings(4, 12, rf"{LANGUAGE_LINEARS}|lm_head"), "train_projector": True, "reference_adapter": True,
    },
    "lora and tower": {"lora": LORA, "train_tower": True},
    "full": {"train_projector": True},
}  # fmt: skip


def rank_views(rank: int) -> list[View]:
    """Another number of views, and others, on each rank."""
    generator = torch.Generator().manual_seed(rank)
    frames = torch.randint(0, 256, (NUM_FRAMES, 3, 16, 20 + rank), generator=generator, dtype=torch.uint8)
    views = [
        View(0, "original", frames, "what moves?", {"chosen": "a red ball", "rejected": "a cube"}),
        View(0, "video_negative", frames.flip(0), "what moves?", {"chosen": "a red ball"}),
        View(0, "object", frames[:1].expand_as(frames), "what moves?", {"chosen": "it"}),
    ]
    return views if rank == 0 else views[:1]


def rank_loss(policy: VideoLlavaPolicy, frozen: VideoLlavaPolicy | None, rank: int) -> Tensor:
    """Log-probabilities and a divergence from the reference, the adapters' or a frozen copy."""
    encoded = policy.encode(rank_views(rank), KEEP)
    with torch.no_grad(), policy.reference_mode():
        reference = (frozen or policy)(encoded)
    scores = policy(encoded)
    kl = policy.kl(reference, scores, None if frozen is None else frozen.logits)
    return (scores.log_probs - reference.log_probs * 0.5).square().sum() / 100 + kl.sum()


def nudge(policy: nn.Module) -> None:
    """Move what trains off its start, alike on all ranks and in one process."""
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.mul_(1.1).add_(0.02)


def full(values: Any) -> Any:
    return values.full_tensor() if hasattr(values, "full_tensor") else values


def gradients(policy: nn.Module) -> dict[str, Tensor]:
    return {
        name: full(parameter.grad).clone()
        for name, parameter in policy.named_parameters()
        if parameter.grad is not None
    }


def flags(policy: nn.Module) -> dict[str, bool]:
    return {name: parameter.requires_grad for name, parameter in policy.named_parameters()}


def work(rank: int, folder: str, checkpoint: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    for name, settings in SETTINGS.items():
        torch.manual_seed(rank)
        policy = VideoLlavaPolicy(checkpoint, num_frames=NUM_FRAMES, **settings)
        frozen = None if "lora" in settings else copy.deepcopy(policy)
        load_sharded(policy, mesh)
        if frozen is not None:
            load_sharded(frozen, mesh)
            frozen.requires_grad_(False)
        results: dict[str, Any] = {"start": full_state_dict(policy), "buffers": dict(policy.named_buffers())}
        results["shared"] = sum(
            full(parameter).numel() - parameter.to_local().numel() > 0 for parameter in policy.parameters()
        )
        nudge(policy)
        before = flags(policy)
        results["losses"], results["gradients"] = [], []
        for _ in range(2):
            policy.zero_grad()
            loss = rank_loss(policy, frozen, rank)
            loss.backward()
            dist.all_reduce(loss.detach())
            results["losses"].append(float(loss.detach()) / 2)
            results["gradients"].append(gradients(policy))
            nudge(policy)
        assert flags(policy) == before
        results["flags"] = before
        results["trained"] = full_state_dict(policy, trained_only=True)
        results["answers"] = policy.generate(["what?"] * (1 + rank), [rank_views(rank)[0].frames] * (1 + rank), 6)
        if settings.get("reference_adapter"):
            snapshot_reference(policy)
        with torch.no_grad():
            encoded = policy.encode(rank_views(0))
            results["scores"] = policy(encoded).log_probs
            with policy.reference_mode():
                results["reference"] = policy(encoded).log_probs
        policy.export(Path(folder) / name)
        if rank == 0:
            torch.save(results, Path(folder) / f"{name}.pt")
        dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes found."""
    folder = tmp_path_factory.mktemp("ranks")
    mp.spawn(work, (str(folder), str(checkpoint)), nprocs=2)
    return folder


@pytest.fixture(params=SETTINGS)
def results(request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(folder / f"{request.param}.pt")
    return loaded | {"name": request.param, "folder": folder / request.param}


@pytest.fixture
def single(results: dict[str, Any], checkpoint: Path) -> VideoLlavaPolicy:
    """One process with the weights that the two started from."""
    policy = VideoLlavaPolicy(str(checkpoint), num_frames=NUM_FRAMES, **SETTINGS[results["name"]])
    policy.load()
    torch.testing.assert_close(dict(policy.named_buffers()), results["buffers"])
    drawn = {name: tensor for name, tensor in results["start"].items() if "lora_A" not in name}
    torch.testing.assert_close({name: tensor for name, tensor in policy.state_dict().items() if name in drawn}, drawn)
    policy.load_state_dict(results["start"])
    return policy


def test_two_processes_give_the_single_processs_loss_and_gradients(
    results: dict[str, Any], single: VideoLlavaPolicy
) -> None:
    assert results["shared"] == len(list(single.parameters()))
    assert results["flags"] == flags(single)
    frozen = None if "lora" in SETTINGS[results["name"]] else copy.deepcopy(single).requires_grad_(False)
    nudge(single)
    for loss, expected in zip(results["losses"], results["gradients"], strict=True):
        single.zero_grad()
        mean = (rank_loss(single, frozen, 0) + rank_loss(single, frozen, 1)) / 2
        mean.backward()
        torch.testing.assert_close(float(mean.detach()), loss, rtol=1e-5, atol=1e-5)
        ours = gradients(single)
        assert ours.keys() == expected.keys() == {name for name, on in results["flags"].items() if on}
        for name, gradient in ours.items():
            tolerance = 1e-5 * max(1.0, float(gradient.abs().max()))
            torch.testing.assert_close(expected[name], gradient, rtol=1e-5, atol=tolerance)
        nudge(single)
    assert results["trained"].keys() == ours.keys()
    with torch.no_grad():
        encoded = single.encode(rank_views(0))
        torch.testing.assert_close(results["scores"], single(encoded).log_probs, rtol=1e-5, atol=1e-4)
    assert results["answers"] == single.generate(["what?"], [rank_views(0)[0].frames], 6)
    assert torch.equal(results["scores"], results["reference"]) == (results["name"] in ("lora in the root", "full"))


def test_the_export_of_two_processes_reloads_equal(results: dict[str, Any], checkpoint: Path) -> None:
    settings = {**SETTINGS[results["name"]], "reference_adapter": False}
    if "lora" in settings:
        again = VideoLlavaPolicy(str(checkpoint), adapter=str(results["folder"]), num_frames=NUM_FRAMES, **settings)
    else:
        again = VideoLlavaPolicy(str(results["folder"]), num_frames=NUM_FRAMES, **settings)
    again.load()
    with torch.no_grad():
        scores = again(again.encode(rank_views(0))).log_probs
    torch.testing.assert_close(results["scores"], scores, rtol=1e-5, atol=1e-4)


def test_a_precision_that_casts_the_batch_is_refused(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="cast_forward_inputs must be False"):
        shard(nn.Linear(1, 1), None, MixedPrecisionPolicy())  # type: ignore[arg-type]


def test_every_block_is_its_own_unit(tmp_path: Path, checkpoint: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        policy = VideoLlavaPolicy(str(checkpoint), num_frames=NUM_FRAMES, lora=LORA, dtype="bfloat16")
        load_sharded(policy, mesh, MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False))
        units = [name for name, module in policy.named_modules() if isinstance(module, FSDPModule)]
        assert len(units) == 1 + 2 + 2 * 3  # the root, the language model's layers, both towers'
        assert {str(parameter.dtype) for parameter in policy.parameters()} == {"torch.bfloat16", "torch.float32"}
        policy(policy.encode(rank_views(0))).log_probs.sum().backward()
        assert {parameter.grad.dtype for parameter in policy.parameters() if parameter.grad is not None} == {
            torch.float32
        }
        assert not mixed_precision(mesh).cast_forward_inputs
    finally:
        dist.destroy_process_group()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_bfloat16_step_on_cuda_is_near_float32(tmp_path: Path, checkpoint: Path) -> None:
    def step(policy: VideoLlavaPolicy) -> tuple[Tensor, dict[str, Tensor]]:
        views = rank_views(0)
        for view in views:
            view.pool = view.pool.cuda()
        encoded = policy.encode(views, KEEP)
        with torch.no_grad(), policy.reference_mode():
            reference = policy(encoded)
        scores = policy(encoded)
        (scores.log_probs.sum() + policy.kl(reference, scores).sum()).backward()
        return scores.log_probs.detach(), gradients(policy)

    exact = VideoLlavaPolicy(str(checkpoint), num_frames=NUM_FRAMES, lora=LORA)
    exact.load()
    dist.init_process_group("nccl", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        sharded = VideoLlavaPolicy(str(checkpoint), num_frames=NUM_FRAMES, lora=LORA)
        load_sharded(sharded, init_device_mesh("cuda", (1,)))
        exact.load_state_dict(full_state_dict(sharded))
        nudge(sharded)
        nudge(exact.cuda())
        log_probs, grads = step(sharded)
        exact_log_probs, exact_grads = step(exact)
    finally:
        dist.destroy_process_group()
    torch.testing.assert_close(log_probs, exact_log_probs, rtol=0.05, atol=0.5)
    assert grads.keys() == exact_grads.keys()
    assert {grad.dtype for grad in grads.values()} == {torch.float32}
    ours, theirs = (torch.cat([tree[name].flatten() for name in exact_grads]) for tree in (grads, exact_grads))
    assert torch.cosine_similarity(ours, theirs, dim=0) > 0.95
