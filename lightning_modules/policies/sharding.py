"""FSDP2 for a policy: its blocks and its root as sharding units, its weights from rank 0."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.utils._pytree import register_dataclass

from datamodules.vista.samples import AnswerScores

# FSDP2 gathers the root again for backward by hooks on what a forward returned. torch before 2.15 looks for tensors in
# registered containers only: unregistered, the root would be met in shards.
register_dataclass(AnswerScores)


def mixed_precision(mesh: DeviceMesh) -> MixedPrecisionPolicy:
    """The precision by device: bfloat16 parameters and float32 reduction on CUDA, everything as stored on a CPU.

    Inputs are never cast: FSDP2 would rebuild dataclasses and cast times and weights with them.
    """
    if mesh.device_type == "cpu":
        return MixedPrecisionPolicy(cast_forward_inputs=False)
    return MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)


def is_shardable(policy: Any) -> bool:
    """Whether FSDP2 can shard a policy: weights in four bits lose their scales in shards."""
    return getattr(policy, "quantization", None) is None


def check_shardable(policy: Any) -> None:
    """Raise a ValueError for a policy that FSDP2 cannot shard."""
    if not is_shardable(policy):
        raise ValueError(
            f"policy.quantization is {policy.quantization}: four-bit weights are not sharded; use another strategy"
        )


def shard(policy: Any, mesh: DeviceMesh, precision: MixedPrecisionPolicy | None = None) -> None:
    """Shard a policy in place: each block its own unit, the root the rest, every entry point registered.

    Args:
        policy: a `VideoLLM` or `VideoFlow` that is loaded, on the meta device or with weights.
        mesh: the data-parallel ranks, in one row, or (replicate, shard): groups that each hold all of it.
        precision: None = `mixed_precision(mesh)`.

    Raises:
        ValueError: the precision casts inputs.
    """
    precision = precision or mixed_precision(mesh)
    if precision.cast_forward_inputs:
        raise ValueError("mixed precision: cast_forward_inputs must be False, a cast copy of the batch would be scored")
    for block in policy.blocks():
        fully_shard(block, mesh=mesh, mp_policy=precision)
    # Left to itself the root stays gathered after a forward without a backward, and what is then written to its
    # parameters (a refreshed reference, a restored checkpoint) goes to a copy that is thrown away.
    fully_shard(policy, mesh=mesh, mp_policy=precision, reshard_after_forward=True)
    for name in policy.entry_points:
        register_fsdp_forward_method(policy, name)


def load_sharded(policy: Any, mesh: DeviceMesh, precision: MixedPrecisionPolicy | None = None) -> None:
    """Load a policy sharded from the start: rank 0 reads the files, no other process ever holds the whole model.

    Every rank builds the policy on the meta device, shards it and allocates its share; rank 0 also loads an ordinary
    copy on its CPU and hands out the parameters (new adapters as it drew them) and the buffers, those that no
    checkpoint holds included. Does nothing where the policy is loaded already.

    Args:
        policy: a `VideoLLM` or `VideoFlow` that is not loaded.
        mesh: the data-parallel ranks, in one row, or (replicate, shard): groups that each hold all of it.
        precision: None = `mixed_precision(mesh)`.

    Raises:
        ValueError: the policy cannot be sharded.
    """
    if policy.model is not None:
        return
    check_shardable(policy)
    full: nn.Module | None = None
    if dist.get_rank() == 0:
        full = copy.deepcopy(policy)
        full.load()  # type: ignore[operator]
    policy.load(meta=True)
    shard(policy, mesh, precision)
    policy.to_empty(device=mesh.device_type)
    state = {} if full is None else dict(full.state_dict())
    set_model_state_dict(policy, state, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True))
    sources = {} if full is None else dict(full.named_buffers())
    for name, buffer in policy.named_buffers():
        if full is not None:
            buffer.copy_(sources[name])
        dist.broadcast(buffer, src=0)


def is_sharded(module: nn.Module) -> bool:
    """Whether FSDP2 holds the module's parameters."""
    return isinstance(module, FSDPModule)


def full_state_dict(module: nn.Module, trained_only: bool = False) -> dict[str, Tensor]:
    """Full tensors on the CPU of rank 0, an empty dict elsewhere; every rank must call it."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=trained_only)
    gathered: Any = get_model_state_dict(module, options=options)
    return dict(gathered)


def most_of_any_rank(count: int, device: torch.device) -> int:
    """The largest of all ranks' counts; every rank must call it."""
    counts = torch.tensor(count, device=device)
    dist.all_reduce(counts, dist.ReduceOp.MAX)
    return int(counts)
