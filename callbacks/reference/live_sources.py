"""References that score by a forward: the policy without its adapters, or a frozen copy of it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from callbacks.reference.sources import ReferenceSource, ReferenceSplit
from lightning_modules.answer_module import AnswerModule
from lightning_modules.losses.log_probs import Head
from lightning_modules.policies.adapters import reference_parameters, snapshot_reference
from lightning_modules.policy_loading import load_policy
from lightning_modules.preference import PreferenceModule


class AdapterSource(ReferenceSource):
    """The policy itself with its adapters off, or with the frozen copy of the adapter that it was started from.

    Args:
        refreshes: the reference will follow the policy, so it needs an adapter of its own.
        mode: what to call it in an error.
    """

    def __init__(self, refreshes: bool = False, mode: str = "adapter") -> None:
        self.refreshes = refreshes
        self.mode = mode

    def prepare(self, trainer: Trainer, module: PreferenceModule, split: ReferenceSplit) -> None:
        """Refuse a policy of which more trains than its adapters, or which has no adapter to refresh.

        Raises:
            ValueError: names such a parameter, or the fix.
        """
        if self.refreshes and not self.tensors(module):
            raise ValueError(
                "ReferenceModel: refresh_every_n_steps is set, but the policy has no reference adapter that could "
                "follow it; set `reference_adapter: true` in the policy"
            )
        outside = trained_outside_adapters(module.policy)
        if outside:
            cached = ", or mode cached after `vidpref predict` with ReferenceCacheWriter"
            raise ValueError(
                f"ReferenceModel: mode is {self.mode}, but {len(outside)} parameters train that are no adapter's (the "
                f"first is {outside[0]}); the reference would move with them. For full fine-tuning use mode copy"
                f"{cached if isinstance(module, AnswerModule) else ''}"
            )

    def scores(self, module: PreferenceModule, batch: Any, split: ReferenceSplit) -> tuple[Any, Head | None]:
        """One forward in the policy's reference mode."""
        with module.policy.reference_mode():
            return module.reference_scores(batch), None

    def refresh(self, module: PreferenceModule, decay: float) -> None:
        """Copy the trained adapter into the reference's, or average the two."""
        snapshot_reference(module.get_submodule("policy"), decay)

    def tensors(self, module: PreferenceModule) -> dict[str, Tensor]:
        """The reference adapter's parameters."""
        return dict(reference_parameters(module.get_submodule("policy")))


class CopySource(ReferenceSource):
    """A frozen second model, loaded from the policy's configuration and kept out of the module."""

    def __init__(self) -> None:
        self._copy: Any = None
        self._ready = False

    def setup(self, trainer: Trainer, module: PreferenceModule) -> None:
        """Copy the policy while it is a configuration only: what is loaded from it later are the starting weights."""
        if self._copy is None:
            self._copy = copy.deepcopy(module.policy)

    def prepare(self, trainer: Trainer, module: PreferenceModule, split: ReferenceSplit) -> None:
        """Load, freeze, and move to the device; sharded as the policy is."""
        if self._ready:
            return
        strategy, precision = trainer.strategy, trainer.precision_plugin
        with strategy.tensor_init_context(), strategy.model_sharded_context(), precision.module_init_context():
            load_policy(module, self._copy)
        self._copy = precision.convert_module(self._copy.requires_grad_(False)).eval()
        self._copy.to(module.device)
        self._ready = True

    def scores(self, module: PreferenceModule, batch: Any, split: ReferenceSplit) -> tuple[Any, Head | None]:
        """One forward of the copy, on the encoding that it shares with the policy where the family has one."""
        # A flow model has no output head.
        return module.reference_scores(batch, self._copy), getattr(self._copy, "logits", None)

    def refresh(self, module: PreferenceModule, decay: float) -> None:
        """Copy what trains, or average it."""
        kept = self.tensors(module)
        with torch.no_grad():
            for name, parameter in trained(module.policy).items():
                # lerp to the policy by 1 - decay: a decay of 0 is a copy.
                kept[name].lerp_(parameter.detach().to(kept[name].dtype), 1.0 - decay)

    def tensors(self, module: PreferenceModule) -> dict[str, Tensor]:
        """The copy's parameters of the names that train in the policy."""
        # FSDP2 does not shard again after a forward that runs within a backward, as the head's does for the token term;
        # what is written to gathered parameters would be lost.
        for layer in self._copy.modules():
            if isinstance(layer, FSDPModule):
                layer.reshard()
        kept = dict(self._copy.named_parameters())
        return {name: kept[name] for name in trained(module.policy)}


def trained(policy: Any) -> dict[str, nn.Parameter]:
    """The policy's parameters that train, by name."""
    return {name: parameter for name, parameter in policy.named_parameters() if parameter.requires_grad}


def trained_outside_adapters(policy: Any) -> list[str]:
    """Names of the parameters that train although switching the adapters off does not take them out."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    # By identity: a parameter has other names within its layer than in the policy.
    switched: set[int] = set()
    for layer in policy.modules():
        if isinstance(layer, BaseTunerLayer | AuxiliaryTrainingWrapper):
            base = layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else layer.original_module
            switched |= set(map(id, layer.parameters())) - set(map(id, base.parameters()))
    return [name for name, parameter in trained(policy).items() if id(parameter) not in switched]
