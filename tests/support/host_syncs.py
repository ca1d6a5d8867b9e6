"""The operations for which a host waits for its GPU, counted on fake CUDA tensors, which need none."""

from __future__ import annotations

import traceback
import weakref
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
#: Their result, or its size, is read on the host.
READ = {
    aten._local_scalar_dense, aten.equal, aten.nonzero, aten.masked_select, aten._unique2, aten.unique_consecutive,
    aten.unique_dim, aten.repeat_interleave, aten.bincount,
}  # fmt: skip
#: Their second argument is a list of indices.
INDEXED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
COPIES = {aten._to_copy, aten.copy_, aten._copy_from}


class HostSyncs(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Mode that lists the host's waits for a GPU: what is on a CPU is real, what is made on or sent to CUDA is fake.

    A value that is read is 1, which passes every check.

    Args:
        mode: of the fake tensors.
    """

    def __init__(self, mode: FakeTensorMode) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        #: "operation file:function" of each wait, of the innermost frame outside of torch.
        self.syncs: list[str] = []
        self._mode = mode
        #: Page-locked memory, which needs a driver, is a copy here.
        self._pinned: weakref.WeakSet[Any] = weakref.WeakSet()

    def __enter__(self) -> Self:
        # Below this mode: without it torch would look for a driver.
        self._mode.__enter__()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._mode.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, packet = kwargs or {}, func._overloadpacket
        if packet is aten._pin_memory:
            pinned = args[0].clone()
            self._pinned.add(pinned.untyped_storage())
            return pinned
        if packet is aten.is_pinned:
            return args[0].untyped_storage() in self._pinned
        if self._waits(packet, args, kwargs):
            self.syncs.append(f"{packet.__name__} {_place()}")
        if packet in (aten._local_scalar_dense, aten.equal) and _on_gpu(args[0]):
            return True if packet is aten.equal or args[0].dtype == torch.bool else 1
        fake = _on_gpu(kwargs.get("device")) or any(
            isinstance(leaf, FakeTensor) for leaf in tree_leaves((args, kwargs))
        )
        with nullcontext() if fake else unset_fake_temporarily():
            return func(*args, **kwargs)

    def _waits(self, packet: Any, args: Any, kwargs: Any) -> bool:
        tensors = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
        if packet in READ:
            return any(map(_on_gpu, tensors))
        if packet in INDEXED and _on_gpu(args[0]):
            indices = [index for index in args[1] if index is not None]
            # A mask's places are counted, and an index from the CPU is copied.
            return any(index.dtype in (torch.bool, torch.uint8) or not _on_gpu(index) for index in indices)
        if packet in COPIES:
            source = args[1] if packet is aten.copy_ else args[0]
            target = args[0] if packet is aten.copy_ else kwargs.get("device") or source.device
            if _on_gpu(source) == _on_gpu(target):
                return False
            blocking = not (kwargs.get("non_blocking") or (packet is aten.copy_ and len(args) > 2 and args[2]))
            return _on_gpu(source) or blocking or source.untyped_storage() not in self._pinned
        return False


def _on_gpu(where: Any) -> bool:
    device = where.device if isinstance(where, Tensor) else where
    return device is not None and torch.device(device).type == "cuda"


def _place() -> str:
    frames = [frame for frame in traceback.extract_stack() if "/torch/" not in frame.filename]
    inner = next(frame for frame in reversed(frames) if frame.filename != __file__)
    return f"{Path(inner.filename).name}:{inner.name}"
