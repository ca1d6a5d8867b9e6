"""Memory and operations of whatever runs under it, on real tensors and on fake ones alike."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.modules import module as module_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


class Work(NamedTuple):
    """A kind of operations.

    Attributes:
        phase: part of the step.
        kind: "attention" or "matmul" (convolutions among them).
        dtype: of the operands.
    """

    phase: str
    kind: str
    dtype: str


@dataclass(slots=True)
class Peak:
    """The moment of the most memory.

    Attributes:
        total: bytes of all live storages.
        parts: bytes of what was announced: weights, gradients and so on; the rest is the step's own.
        phase: part of the step.
        place: the operation, and the module in which it ran.
    """

    total: int = 0
    parts: Counter[str] = field(default_factory=Counter)
    phase: str = ""
    place: str = ""


class StepTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tracker of live storages and of floating-point operations, by phase.

    A storage counts from the operation that returns it until nothing refers to it, and by its size at each moment:
    FSDP2 empties and fills storages that stay. Operations are counted by torch's own formulas, but here and not in
    `FlopCounterMode`, which keeps recomputed activations alive.

    Args:
        names: module -> what to call it.
    """

    def __init__(self, names: dict[nn.Module, str] | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.phase = ""
        self.flops: Counter[Work] = Counter()
        self.peak = Peak()
        #: Phase -> the most bytes in it.
        self.peaks: Counter[str] = Counter()
        self.now = 0
        #: Bytes that were announced, by what they are.
        self.parts: Counter[str] = Counter()
        self._names = {id(module): name for module, name in (names or {}).items()}
        self._entered: list[str] = []
        #: The outermost module that was left last: in backward, the one that was computed again.
        self._left = ""
        #: Storage -> its bytes now; keyed weakly, so that being counted keeps nothing alive.
        self._live: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()

    # What is counted

    def add(self, tensors: Iterable[Tensor], part: str | None = None) -> None:
        """Count tensors that were made elsewhere, as a part that is reported by itself."""
        for tensor in tensors:
            self._add(local(tensor), part)

    def _add(self, tensor: Tensor, part: str | None = None) -> None:
        storage = tensor.untyped_storage()
        entry = self._live.get(storage)
        if entry is None:
            # The list is shared with the finalizer, which must know the size of the last moment.
            entry = self._live[storage] = [0, None]
            weakref.finalize(storage, self._resize, entry, 0)
            self._resize(entry, storage.nbytes())
        if part is not None and entry[1] is None:
            entry[1] = part
            self.parts[part] += entry[0]

    def claim(self, part: str) -> None:
        """Call what is alive and was not announced a part: what a micro-batch has left behind."""
        for entry in list(self._live.values()):
            # Empty storages wait for parameters to be gathered.
            if entry[1] is None and entry[0] > 0:
                entry[1] = part
                self.parts[part] += entry[0]

    def restart(self) -> None:
        """Count operations and look for the peak from here on; what is alive stays counted."""
        self.flops, self.peaks, self.peak = Counter(), Counter(), Peak()

    def _resize(self, entry: list[Any], size: int) -> None:
        change, entry[0] = size - entry[0], size
        self.now += change
        if entry[1] is not None:
            self.parts[entry[1]] += change

    def _note(self, place: Callable[[], str]) -> None:
        self.peaks[self.phase] = max(self.peaks[self.phase], self.now)
        if self.now > self.peak.total:
            self.peak = Peak(self.now, Counter(self.parts), self._part_of_step(), place())

    def _part_of_step(self) -> str:
        # Checkpointed blocks run again within backward, with gradients on; backward's own operations run without.
        again = self.phase == "backward" and torch.is_grad_enabled()
        return "recomputation" if again else self.phase

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count it."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            operand = next(leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor))
            kind = "attention" if "attention" in func.__name__ else "matmul"
            count = formula(*args, **kwargs, out_val=result)
            self.flops[Work(self._part_of_step(), kind, str(operand.dtype).removeprefix("torch."))] += count
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._add(local(leaf))
        self._note(lambda: f"{func._overloadpacket.__name__} {self._module_at_hand()}")
        return result

    def _module_at_hand(self) -> str:
        if self._entered:
            return f"in {self._entered[-1]}"
        return f"for the gradient of {self._left}" if self.phase == "backward" and self._left else "in the method"

    # Around it

    def __enter__(self) -> Self:
        """Count from here on."""
        hooks = module_hooks
        self._handles = [
            hooks.register_module_forward_pre_hook(self._enter_module),
            # Also where an exception ends it: a block that is recomputed stops as soon as it has all that is needed.
            hooks.register_module_forward_hook(self._leave_module, always_call=True),
        ]
        tracker, original = self, torch.UntypedStorage.resize_

        def resize(storage: Any, size: int) -> Any:
            result = original(storage, size)
            entry = tracker._live.get(storage)
            if entry is not None:
                tracker._resize(entry, storage.nbytes())
                tracker._note(lambda: "gathered parameters")
            return result

        torch.UntypedStorage.resize_ = resize  # type: ignore[assignment,method-assign]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        """Count no more."""
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        # The method itself is that of the base class.
        del torch.UntypedStorage.resize_
        for handle in self._handles:
            handle.remove()

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """Call what runs within it a phase of the step."""
        self.phase, before = phase, self.phase
        self._entered, self._left = [], ""
        self._note(lambda: f"start of {phase}")
        try:
            yield
        finally:
            self.phase = before

    def _enter_module(self, module: nn.Module, args: Any) -> None:
        self._entered.append(self._names.get(id(module), type(module).__name__))

    def _leave_module(self, module: nn.Module, args: Any, output: Any) -> None:
        if self._entered:
            self._left = self._entered.pop()


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
