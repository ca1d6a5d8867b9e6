"""A run's step on one GPU and on several, for any batch and any length of video."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch.distributed.fsdp import MixedPrecisionPolicy

from callbacks.estimate.batches import Sizes, batch_of
from callbacks.estimate.fakes import FakeMode, FakeOperations, load_fake, load_fake_sharded, pretended_group
from callbacks.estimate.step import Reference, StepCost, StepRun, frozen_copy, step_cost
from lightning_modules.preference import PreferenceModule
from lightning_modules.strategies import Accumulation, AdapterFSDP, fitting_accumulation, waiting_gradients

#: As configs/strategy/fsdp.yaml has it.
SHARDED_PRECISION = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)


@dataclass(frozen=True, slots=True)
class Sharding:
    """What a run's strategy says of FSDP2; of another strategy, as configs/strategy/fsdp.yaml has it.

    Attributes:
        precision: what FSDP2 computes and reduces in.
        replicas: groups of processes that each hold the whole policy.
        accumulation: how the gradients of accumulated micro-batches wait; None = as it fits the policy.
    """

    precision: MixedPrecisionPolicy = SHARDED_PRECISION
    replicas: int = 1
    accumulation: Accumulation | None = None

    @classmethod
    def of(cls, strategy: Any, num_nodes: int) -> Self:
        """That of a configured strategy.

        Args:
            strategy: of the trainer, which may be another one's.
            num_nodes: of the trainer.
        """
        if not isinstance(strategy, AdapterFSDP):
            return cls()
        replicas = num_nodes if strategy.replicas == "nodes" else strategy.replicas
        return cls(strategy.mixed_precision or SHARDED_PRECISION, replicas, strategy.accumulation)


@dataclass(slots=True)
class Estimator:
    """Estimator of a run's step.

    Attributes:
        module: the method, whose policy is not loaded; it stays so.
        data: the data module.
        reference: how the reference's scores come.
        precision: makes the context of a forward on one device and under DDP.
        sharding: how FSDP2 shards.
        accumulates: whether an optimizer step has several micro-batches.
    """

    module: PreferenceModule
    data: Any
    reference: Reference
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext
    sharding: Sharding = field(default_factory=Sharding)
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
                run = StepRun(self.reference, True, self._earlier(parts[0].policy))
                return self._cost(parts, sizes, batch_size, run, True)
        self._whole = self._whole or self._loaded(False)
        run = StepRun(self.reference, self.accumulates or gpus > 1, precision=self.precision)
        return self._cost(self._whole, sizes, batch_size, run, False)

    def _earlier(self, policy: Any) -> Callable[[], AbstractContextManager[Any]] | None:
        """The context of an earlier micro-batch, where it leaves whole gradients; reduced ones are ordinary."""
        accumulation = self.sharding.accumulation or fitting_accumulation(policy)
        if not self.accumulates or accumulation != "whole":
            return None
        return lambda: waiting_gradients(policy, accumulation, self.sharding.replicas)

    def _loaded(self, sharded: bool) -> tuple[PreferenceModule, Any, FakeMode]:
        module, mode = copy.deepcopy(self.module), FakeMode()
        reference = frozen_copy(module.policy) if self.reference == "copy" else None
        for policy in filter(None, (module.policy, reference)):
            policy.compiled = None  # fake tensors compile nothing
            if sharded:
                load_fake_sharded(policy, mode, self.sharding.precision, self.sharding.replicas)
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
