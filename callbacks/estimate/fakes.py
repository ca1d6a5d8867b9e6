"""Weights without memory: a policy of fake parameters, on one device or sharded over a pretended group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from callbacks.estimate.four_bits import fake_packed, is_four_bit
from lightning_modules.policies.sharding import check_shardable, shard

#: Buffers that FSDP2 gathers into and that hold no value which anybody reads.
_BUFFERS = (torch.ops.aten.empty.memory_format, torch.ops.aten.empty_strided.default)
#: Operations whose second argument is a list of indices.
_INDEXED = (
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put.default,
    torch.ops.aten.index_put_.default,
)
#: Operations besides the pointwise ones that may make many elements of few.
_COPYING = (torch.ops.aten.repeat.default, torch.ops.aten._to_copy.default)
#: Elements from which a result that has so many times those of its operands is fake, and not computed.
_LARGE, _TIMES = 1 << 27, 64


class FakeMode(FakeTensorMode):  # type: ignore[no-untyped-call]
    """Mode in whose operations real tensors may take part: token ids and masks stay real, weights are fake."""

    def __init__(self) -> None:
        super().__init__(allow_non_fake_inputs=True)

    @cached_property
    def avoid_device_init(self) -> bool:
        """Whether a GPU is left alone; torch looks for one at each operation, a fifth of the time."""
        return bool(super().avoid_device_init)


def load_fake(policy: Any, mode: FakeMode, device: str = "cpu") -> None:
    """Load a policy that has no weights: everything that it computes from weights is fake, the rest is real.

    Args:
        policy: that is not loaded.
        mode: of the fake tensors.
        device: where they pretend to be.
    """
    policy.load(meta=True)
    made: dict[int, Any] = {}
    with mode:
        for module in policy.modules():
            for name, weight in module._parameters.items():
                if weight is not None:
                    if id(weight) not in made and is_four_bit(weight):
                        made[id(weight)] = fake_packed(weight, device)
                    elif id(weight) not in made:
                        empty = torch.empty(weight.shape, dtype=weight.dtype, device=device)
                        made[id(weight)] = nn.Parameter(empty, requires_grad=weight.requires_grad)
                    module._parameters[name] = made[id(weight)]  # tied weights stay tied
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device=device)


def load_fake_sharded(policy: Any, mode: FakeMode, precision: MixedPrecisionPolicy, replicas: int = 1) -> None:
    """The same under FSDP2, as rank 0 of the pretended process group that is running.

    Args:
        policy: that is not loaded.
        mode: of the fake tensors.
        precision: of the strategy.
        replicas: groups of processes that each hold the whole policy.
    """
    from torch.distributed.device_mesh import init_device_mesh

    check_shardable(policy)
    size = torch.distributed.get_world_size()
    # As AdapterFSDP has them.
    mesh = (
        init_device_mesh("cpu", (size,))
        if replicas == 1
        else init_device_mesh("cpu", (replicas, size // replicas), mesh_dim_names=("replicate", "shard"))
    )
    policy.load(meta=True)
    shard(policy, mesh, precision)
    with mode:
        policy.to_empty(device="cpu")


class FakeOperations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Mode for operations that fake tensors alone cannot do.

    A fake tensor that is indexed by a real mask, as Qwen3-VL's own code does with the places of the video, is indexed
    by the places where the mask is set: how many there are is known. Memory that FSDP2 gathers parameters into, which
    has no content, is fake like what is gathered. And a large tensor that is made of small real ones, as a mask of all
    pairs of tokens is of a mask of tokens, is fake: it counts, but takes no gigabytes here.

    Args:
        mode: of the fake tensors.
        gathers: whether FSDP2 is there.
    """

    def __init__(self, mode: FakeMode, gathers: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._mode = mode
        self._gathers = gathers

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation."""
        kwargs = kwargs or {}
        if self._gathers and func in _BUFFERS:
            with self._mode:
                return func(*args, **kwargs)
        if func in _INDEXED:
            args = (args[0], [part for index in args[1] for part in _places(index)], *args[2:])
        if _multiplies(func):
            operands = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            if operands and not any(isinstance(operand, FakeTensor) for operand in operands):
                with self._mode:
                    result = func(*args, **kwargs)
                if _LARGE < result.numel() > _TIMES * max(map(_stored, operands)):
                    return result
        return func(*args, **kwargs)


@cache
def _multiplies(func: Any) -> bool:
    """Whether an operation may make a tensor of its own that has many more elements than its operands."""
    if func not in _COPYING and torch.Tag.pointwise not in func.tags:
        return False
    # Whether tensors are equal is pointwise, too, but no tensor.
    return [(str(value.type), value.alias_info) for value in func._schema.returns] == [("Tensor", None)]


def _stored(tensor: Tensor) -> int:
    """How many elements a tensor has in memory; expanded, it has more."""
    return tensor.untyped_storage().nbytes() // tensor.element_size()


def _places(index: Tensor | None) -> tuple[Tensor | None, ...]:
    """An index, one of truth values as one of positions in each of its dimensions."""
    is_mask = index is not None and index.dtype == torch.bool and not isinstance(index, FakeTensor)
    return index.nonzero(as_tuple=True) if is_mask and index is not None else (index,)


@contextmanager
def pretended_group(size: int) -> Iterator[None]:
    """A process group of this many ranks of which there is only the first, and in which nothing is sent."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    torch.distributed.init_process_group("fake", rank=0, world_size=size, store=FakeStore())
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()
