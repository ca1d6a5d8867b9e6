"""A run's step on one GPU and on several, for any batch and any length of video."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.fsdp import MixedPrecisionPolicy

from callbacks.estimate.batches import Sizes, batch_of
from callbacks.estimate.fakes import FakeOperations, fake_mode, load_fake, load_fake_sharded, pretended_group
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

    def cost(self, sizes: Sizes, batch_size: int = 1, gpus: int = 1, sharded: bool = False) -> StepCost:
        """What a step takes of one GPU.

        Args:
            sizes: of a sample.
            batch_size: samples in a micro-batch of a GPU.
            gpus: processes.
            sharded: whether FSDP2 shards the policy over them; else each has all of it.
        """
        # A policy loads once.
        module, mode = copy.deepcopy(self.module), fake_mode()
        reference = frozen_copy(module.policy) if self.reference == "copy" else None
        run = StepRun(self.reference, self.accumulates or gpus > 1, nullcontext if sharded else self.precision)
        run.around = lambda: FakeOperations(mode, sharded)
        with ExitStack() as stack:
            if sharded:
                stack.enter_context(pretended_group(gpus))
            for policy in filter(None, (module.policy, reference)):
                if sharded:
                    load_fake_sharded(policy, mode, self.sharded_precision)
                else:
                    load_fake(policy, mode)
            if reference is not None:
                reference.requires_grad_(False).eval()
            batch = batch_of(module, self.data, sizes, batch_size)
            return step_cost(module, batch, run, reference)
