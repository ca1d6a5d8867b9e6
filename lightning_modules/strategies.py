"""FSDP2 as preference training needs it: every process a data-parallel rank, and checkpoints of what trains."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any, Literal

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.constants import default_pg_timeout
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy

DType = Literal["float32", "bfloat16", "float16"]
#: How the gradients of accumulated micro-batches wait for the optimizer step, see `AdapterFSDP`.
Accumulation = Literal["whole", "sharded"]


class AdapterFSDP(ModelParallelStrategy):
    """FSDP2 strategy: Lightning's `ModelParallelStrategy` with three defaults that this project depends on.

    The data-parallel size is the number of processes (Lightning's ``auto`` is the number of nodes, which shards
    nothing). Checkpoints are one file, written by rank 0, so that they resume under any strategy and any number of
    ranks. Saving gathers what trains and nothing else: Lightning would first collect the whole frozen model in rank 0's
    memory. The module reads `policy_mesh` and `mixed_precision` when it shards the policy.

    Args:
        replicas: groups of processes that each hold the whole model in shards, with neighbouring ranks in a group;
            "nodes" = one group a node, so that parameters are gathered within a node and only gradients travel between
            nodes (HSDP). 1 = all processes share one model.
        accumulation: "whole" = gradients are reduced over ranks with the last micro-batch of a step only; until then
            every rank keeps all of its own, of all that trains, in `reduce_dtype`. "sharded" = reduced within a group
            at each micro-batch, and each rank keeps its share; between groups still once a step. None = whole where
            less than half of the policy trains, as adapters do, else sharded.
        param_dtype: what parameters are gathered and computed in; they are kept in the dtype they were loaded in.
            None = by device: bfloat16 on CUDA, as loaded on a CPU.
        reduce_dtype: what gradients are summed over ranks in, where `param_dtype` is given.
        process_group_backend: "nccl" or "gloo"; None = by device.
        timeout: how long a rank waits for the others, as 0:30:00, before the run ends with an error.

    Raises:
        ValueError: there are less than 1 replicas.
    """

    def __init__(
        self,
        param_dtype: DType | None = None,
        reduce_dtype: DType = "float32",
        process_group_backend: str | None = None,
        replicas: int | Literal["nodes"] = 1,
        accumulation: Accumulation | None = None,
        timeout: timedelta = default_pg_timeout,
    ) -> None:
        super().__init__(
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
            process_group_backend=process_group_backend,
            timeout=timeout,
        )
        if replicas != "nodes" and replicas < 1:
            raise ValueError(f"AdapterFSDP: replicas is {replicas}; give 1 or more, or nodes")
        self.replicas = replicas
        self.accumulation = accumulation
        self._policy_mesh: DeviceMesh | None = None
        self.param_dtype = param_dtype
        self.reduce_dtype = reduce_dtype

    @property
    def mixed_precision(self) -> MixedPrecisionPolicy | None:
        """How sharded modules compute. Inputs are not cast: times and cached scores would lose their digits."""
        if self.param_dtype is None:
            return None
        return MixedPrecisionPolicy(
            param_dtype=getattr(torch, self.param_dtype),
            reduce_dtype=getattr(torch, self.reduce_dtype),
            cast_forward_inputs=False,
        )

    def setup_environment(self) -> None:
        """Make every process a data-parallel rank, then start the process group and the device mesh."""
        # Only here is the number of processes known; the mesh is made from it in the base class.
        self._data_parallel_size = self.num_nodes * self.num_processes
        replicas = self._num_replicas()
        if self._data_parallel_size % replicas:
            raise ValueError(
                f"AdapterFSDP: replicas is {replicas}, which does not divide the {self._data_parallel_size} processes "
                f"({self.num_nodes} nodes of {self.num_processes})"
            )
        super().setup_environment()
        if replicas > 1:
            # Lightning's own mesh stays what samplers and clipping read: all processes in one row.
            shape = (replicas, self._data_parallel_size // replicas)
            self._policy_mesh = init_device_mesh(self.root_device.type, shape, mesh_dim_names=("replicate", "shard"))

    @property
    def policy_mesh(self) -> DeviceMesh:
        """What the policy is sharded over: all processes in one row or, with replicas, (replicate, shard)."""
        return self.device_mesh["data_parallel"] if self._policy_mesh is None else self._policy_mesh

    @contextmanager
    def block_backward_sync(self) -> Generator[None, None, None]:
        """Entered by Lightning for all micro-batches of a step but the last."""
        assert self.lightning_module is not None
        roots = [module for module in self.lightning_module.children() if isinstance(module, FSDPModule)]
        with ExitStack() as stack:
            for root in roots:
                accumulation = self.accumulation or fitting_accumulation(root)
                stack.enter_context(waiting_gradients(root, accumulation, self._num_replicas()))
            yield

    def _num_replicas(self) -> int:
        return self.num_nodes if self.replicas == "nodes" else self.replicas

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """What trains, gathered; called on all ranks, empty on all but rank 0."""
        assert self.model is not None
        options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
        return get_model_state_dict(self.model, options=options)


@contextmanager
def waiting_gradients(policy: FSDPModule, accumulation: Accumulation, replicas: int) -> Generator[None, None, None]:
    """While it is entered, a backward pass leaves gradients that wait for the optimizer step's last micro-batch.

    Args:
        policy: sharded.
        accumulation: how they wait, see `AdapterFSDP`.
        replicas: groups of processes that each hold the whole policy.
    """
    if accumulation == "whole":
        policy.set_requires_gradient_sync(False)
    elif replicas > 1:
        policy.set_requires_all_reduce(False)
    try:
        yield
    finally:
        # Both kinds of reduction.
        policy.set_requires_gradient_sync(True)


def fitting_accumulation(policy: FSDPModule) -> Accumulation:
    """Whole gradients where they are small beside the model, which is known when it is loaded only."""
    assert isinstance(policy, torch.nn.Module)
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in policy.parameters()]
    trained = sum(size for size, trains in sizes if trains)
    return "whole" if 2 * trained < sum(size for size, _ in sizes) else "sharded"
