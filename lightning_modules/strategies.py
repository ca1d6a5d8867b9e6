"""FSDP2 as preference training needs it: every process a data-parallel rank, and checkpoints of what trains."""

from __future__ import annotations

from typing import Any, Literal

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import MixedPrecisionPolicy

DType = Literal["float32", "bfloat16", "float16"]


class AdapterFSDP(ModelParallelStrategy):
    """FSDP2 strategy: Lightning's `ModelParallelStrategy` with three defaults that this project depends on.

    The data-parallel size is the number of processes (Lightning's ``auto`` is the number of nodes, which shards
    nothing). Checkpoints are one file, written by rank 0, so that they resume under any strategy and any number of
    ranks. Saving gathers what trains and nothing else: Lightning would first collect the whole frozen model in rank 0's
    memory. The module reads `mixed_precision` when it shards the policy.

    Args:
        param_dtype: what parameters are gathered and computed in; they are kept in the dtype they were loaded in.
            None = by device: bfloat16 on CUDA, as loaded on a CPU.
        reduce_dtype: what gradients are summed over ranks in, where `param_dtype` is given.
        process_group_backend: "nccl" or "gloo"; None = by device.
    """

    def __init__(
        self,
        param_dtype: DType | None = None,
        reduce_dtype: DType = "float32",
        process_group_backend: str | None = None,
    ) -> None:
        super().__init__(
            tensor_parallel_size=1, save_distributed_checkpoint=False, process_group_backend=process_group_backend
        )
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
        super().setup_environment()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """What trains, gathered; called on all ranks, empty on all but rank 0."""
        assert self.model is not None
        options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
        return get_model_state_dict(self.model, options=options)
