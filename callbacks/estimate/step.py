"""One optimizer step of a method, run for what it takes and not for what it computes."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from callbacks.estimate.four_bits import FourBitOperations, scales_of
from callbacks.estimate.tracker import Peak, StepTracker, Work, local
from datamodules.vista.batches import VistaBatch
from lightning_modules.answer_module import AnswerModule
from lightning_modules.preference import PreferenceModule

#: How the reference's scores come: by a second forward with the adapters off, of a frozen copy, from a cache, or there
#: is no reference.
Reference = Literal["adapter", "copy", "cached", "none"]
#: The part that is gradients which FSDP2 has not reduced yet: as large on any number of GPUs.
WAITING = "waiting gradients"


@dataclass(slots=True)
class StepCost:
    """What one micro-batch and the optimizer step after it take of one GPU.

    Attributes:
        weights: bytes of the frozen parameters and buffers, a reference's copy among them.
        trained: bytes of what trains.
        gradients: bytes of its gradients.
        optimizer: bytes of the optimizer's state.
        batch: bytes of the batch.
        peak: the moment of the most memory.
        peaks: phase -> the most bytes in it.
        flops: operations of the micro-batch.
        samples: in the micro-batch.
        waiting: bytes of gradients that FSDP2 keeps whole until a step's last micro-batch.
    """

    weights: int
    trained: int
    gradients: int
    optimizer: int
    batch: int
    peak: Peak
    peaks: Counter[str]
    flops: Counter[Work] = field(default_factory=Counter)
    samples: int = 1
    waiting: int = 0

    @property
    def own(self) -> int:
        """Bytes of activations and temporaries at the peak."""
        return self.peak.total - sum(self.peak.parts.values())


@dataclass(slots=True)
class StepRun:
    """How the step runs.

    Attributes:
        reference: how the reference's scores come.
        accumulates: gradients of earlier micro-batches are there, or buckets for them, when the micro-batch begins.
        earlier: makes the context of an earlier micro-batch, where its gradients wait elsewhere than in `grad`.
        precision: makes the context of a forward.
        around: makes a context of the whole step.
    """

    reference: Reference = "adapter"
    accumulates: bool = True
    earlier: Callable[[], AbstractContextManager[Any]] | None = None
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext
    around: Callable[[], AbstractContextManager[Any]] = nullcontext


def step_cost(module: PreferenceModule, batch: Any, run: StepRun, reference: Any = None) -> StepCost:
    """Run a step in the middle of a training under the tracker.

    The optimizer's state is there from an earlier step, and so are the gradients where micro-batches accumulate.

    Args:
        module: the method, with a policy that is loaded, fake or not.
        batch: of its class, on the policy's device.
        run: how it runs.
        reference: the frozen copy, where the reference is one.
    """
    policy: Any = module.policy
    policy.train()
    trained = list(module.trainable().values())
    optimizer = _stepped_optimizer(module, trained)
    if not run.accumulates or run.earlier is not None:
        optimizer.zero_grad()
    tracker = _tracker(policy, trained, optimizer, batch, reference)
    static = dict(tracker.parts)
    hooks = _track_gradients(trained, tracker)
    waiting = _run_step(module, batch, run, tracker, optimizer, reference)
    for hook in hooks:
        hook.remove()
    optimizer.zero_grad()
    parts = {name: static.get(name, 0) for name in ("weights", "trained", "optimizer", "batch")}
    gradients = sum(local(weight).numel() * weight.element_size() for weight in trained)
    return StepCost(
        **parts, gradients=gradients, peak=tracker.peak, peaks=tracker.peaks, flops=tracker.flops,
        samples=len(batch.keys), waiting=waiting,
    )  # fmt: skip


def _stepped_optimizer(module: PreferenceModule, trained: list[Any]) -> torch.optim.Optimizer:
    """The method's optimizer after its first step, which makes the state; the gradients are there."""
    optimizer = module.optimizer(trained)
    _as_on_a_gpu(optimizer)
    _give_gradients(trained)
    optimizer.step()
    return optimizer


def _tracker(
    policy: Any, trained: list[Any], optimizer: torch.optim.Optimizer, batch: Any, reference: Any
) -> StepTracker:
    """A tracker that knows what is in memory before the step, but for gradients."""
    tracker = StepTracker({part: name for name, part in policy.named_modules()})
    names = {id(weight) for weight in trained}
    copies = [] if reference is None else [*reference.parameters(), *reference.buffers()]
    frozen = [weight for weight in policy.parameters() if id(weight) not in names]
    scales = [scale for weight in frozen for scale in scales_of(weight)]
    tracker.add([*frozen, *scales, *policy.buffers(), *copies], "weights")
    tracker.add(trained, "trained")
    tracker.add((leaf for leaf in _leaves(optimizer.state_dict()["state"]) if isinstance(leaf, Tensor)), "optimizer")
    tracker.add(_tensors(batch), "batch")
    return tracker


def _track_gradients(trained: list[Any], tracker: StepTracker) -> list[Any]:
    """Add the gradients that are there; of the others the hooks that add them."""
    hooks = []
    for weight in trained:
        if weight.grad is not None:
            tracker.add([weight.grad], "gradients")
        elif not hasattr(weight, "to_local"):
            hooks.append(_when_made(weight, tracker))
    return hooks


def _run_step(
    module: PreferenceModule,
    batch: Any,
    run: StepRun,
    tracker: StepTracker,
    optimizer: torch.optim.Optimizer,
    reference: Any,
) -> int:
    """The micro-batches and the optimizer step; the bytes of gradients that waited before the last micro-batch."""
    policy: Any = module.policy
    with ExitStack() as stack:
        # Outside of the tracker, which must see the operations before anybody makes others of them.
        stack.enter_context(run.around())
        if run.reference == "cached":
            with torch.no_grad(), run.precision(), policy.reference_mode():
                batch.reference = module.reference_scores(batch)
            batch.encoded = None
        stack.enter_context(tracker)
        if any(scales_of(weight) for weight in policy.parameters()):
            # Inside of the tracker, which then sees the operations that this makes of one.
            stack.enter_context(FourBitOperations())  # type: ignore[no-untyped-call]
        if run.earlier is not None:
            with run.earlier():
                _micro_batch(module, batch, run, tracker, reference)
            _forget_scores(batch, run)
            tracker.claim(WAITING)
            tracker.restart()
        waiting = tracker.parts[WAITING]
        _micro_batch(module, batch, run, tracker, reference)
        with tracker.during("optimizer"):
            optimizer.step()
    return waiting


def _micro_batch(module: PreferenceModule, batch: Any, run: StepRun, tracker: StepTracker, reference: Any) -> None:
    policy: Any = module.policy
    if isinstance(module, AnswerModule):
        with tracker.during("tower"), torch.no_grad(), run.precision():
            module.encoded(batch)
    if run.reference in ("adapter", "copy"):
        with tracker.during("reference"), torch.no_grad(), run.precision():
            with nullcontext() if reference is not None else policy.reference_mode():
                batch.reference = module.reference_scores(batch, reference)
            if reference is not None and isinstance(batch, VistaBatch):
                batch.reference_head = reference.logits
    with tracker.during("forward"), run.precision():
        terms = module.terms(batch)
        means = PreferenceModule.weighted(module, terms, batch)
        loss = torch.stack([module.weights[name] * mean for name, mean in means.items()]).sum()
    with tracker.during("backward"):
        loss.backward()  # type: ignore[no-untyped-call]


def _forget_scores(batch: Any, run: StepRun) -> None:
    """Let a batch be as it is when it comes from the data module."""
    if isinstance(batch, VistaBatch):
        batch.encoded = None
    if run.reference in ("adapter", "copy"):
        batch.reference = None


def _when_made(weight: Any, tracker: StepTracker) -> Any:
    """Announce a gradient as one as soon as it is there."""
    return weight.register_post_accumulate_grad_hook(lambda weight: tracker.add([weight.grad], "gradients"))


def frozen_copy(policy: Any) -> Any:
    """A second policy for the reference, as it is before it is loaded."""
    return copy.deepcopy(policy)


def _as_on_a_gpu(optimizer: torch.optim.Optimizer) -> None:
    """Let the optimizer update all tensors at once, as torch does by itself on CUDA, with temporaries for all."""
    for group in optimizer.param_groups:
        if "foreach" in group and group["foreach"] is None and not group.get("fused"):
            group["foreach"] = True


def _give_gradients(weights: list[Any]) -> None:
    for weight in weights:
        weight.grad = torch.zeros_like(weight)


def _leaves(value: Any) -> list[Any]:
    return tree_leaves(value)


def _tensors(batch: Any) -> list[Tensor]:
    """All tensors of a batch, views and conditions among them."""
    found: list[Tensor] = []

    def walk(value: Any) -> None:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            for item in value:
                walk(item)
        elif isinstance(value, dict):
            walk(list(value.values()))
        elif hasattr(value, "__dataclass_fields__"):
            walk([getattr(value, name) for name in value.__dataclass_fields__])

    walk(batch)
    return found
