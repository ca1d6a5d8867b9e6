"""A run's step on one GPU and on several, for any batch and any length of video."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.distributed.fsdp import MixedPrecisionPolicy

from callbacks.estimate.batches import Sizes, batch_of
from callbacks.estimate.fakes import FakeMode, FakeOperations, load_fake, load_fake_sharded, pretended_group
from callbacks.estimate.step import Reference, StepCost, StepRun, frozen_copy, step_cost
from lightning_modules.preference import PreferenceModule

#: As configs/strategy/fsdp.yaml has it.
SHARDED_PRECISION = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)


@dataclass(slots=True)
class Estimator:
    """Estimator of a run's step.

    Attributes:
        module: the method, whose policy is not loaded; it stays so.
        data: the data module.
        reference: how the reference's scores come.
        precision: makes the context of a forward on one device and under DDP.
        sharded_precision: what FSDP2 computes and reduces in.
        accumulates: whether an optimizer step has several micro-batches.
    """

    module: PreferenceModule
    data: Any
    reference: Reference
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext
    sharded_precision: MixedPrecisionPolicy = SHARDED_PRECISION
    accumulates: bool = True
    #: Module, reference and mode of the estimates that are not sharded; a policy loads once.
    _whole: tuple[PreferenceModule, Any, FakeMode] | None = field(default=None, repr=False)

    def cost(self, sizes: Sizes, batch_size: int = 1, gpus: int = 1, sharded: bool = False) -> StepCost:
        """What a step takes of one GPU.

        Args:
            sizes: of a sample.
            batch_size: samples in a micro-batch of a GPU.
            gpus: processes.
            sharded: whether FSDP2 shards the policy over them; else each has all of it.
        """
        if sharded:
            with pretended_group(gpus):
                parts = self._loaded(True)
                return self._cost(parts, sizes, batch_size, StepRun(self.reference, True), True)
        self._whole = self._whole or self._loaded(False)
        run = StepRun(self.reference, self.accumulates or gpus > 1, self.precision)
        return self._cost(self._whole, sizes, batch_size, run, False)

    def _loaded(self, sharded: bool) -> tuple[PreferenceModule, Any, FakeMode]:
        module, mode = copy.deepcopy(self.module), FakeMode()
        reference = frozen_copy(module.policy) if self.reference == "copy" else None
        for policy in filter(None, (module.policy, reference)):
            if sharded:
                load_fake_sharded(policy, mode, self.sharded_precision)
            else:
                load_fake(policy, mode)
        if reference is not None:
            reference.requires_grad_(False).eval()
        return module, reference, mode

    def _cost(
        self, parts: tuple[PreferenceModule, Any, FakeMode], sizes: Sizes, batch_size: int, run: StepRun, sharded: bool
    ) -> StepCost:
        module, reference, mode = parts
        run.around = lambda: FakeOperations(mode, sharded)
        return step_cost(module, batch_of(module, self.data, sizes, batch_size), run, reference)
