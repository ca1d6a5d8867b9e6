"""The three ways to a reference's scores, behind one interface: `ReferenceModel` picks one."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor

from callbacks.reference.cache import ReferenceCache, names_of, refuse_resampling
from datamodules.vista.samples import AnswerScores, VistaBatch
from lightning_modules.answer_module import AnswerModule
from lightning_modules.losses.log_probs import Head
from lightning_modules.policies.adapters import reference_parameters, snapshot_reference
from lightning_modules.policy_loading import load_policy
from lightning_modules.preference import PreferenceModule

ReferenceSplit = Literal["train", "val"]
SPLITS: tuple[ReferenceSplit, ...] = get_args(ReferenceSplit)


class ReferenceSource(ABC):
    """One way to the reference's scores."""

    def setup(self, trainer: Trainer, module: PreferenceModule) -> None:  # noqa: B027  # most need nothing
        """Called before any weight is loaded."""

    def prepare(self, trainer: Trainer, module: PreferenceModule, split: ReferenceSplit) -> None:  # noqa: B027
        """Called when weights are loaded, before the first score of a split; does its work once."""

    @abstractmethod
    def scores(self, module: PreferenceModule, batch: Any, split: ReferenceSplit) -> tuple[Any, Head | None]:
        """The reference's scores, and its output head where that is not the policy's own."""

    @property
    def live(self) -> ReferenceSource:
        """The source that the guard watches: what scores by a forward, if anything does."""
        return self

    def keep(self) -> None:  # noqa: B027
        """Write what the run is to find again after a stop."""

    def share(self, trainer: Trainer) -> None:  # noqa: B027
        """Called by all ranks at the end of an epoch, to take over what the others have kept."""

    def refresh(self, module: PreferenceModule, decay: float) -> None:
        """Make the reference the policy as it is now, keeping the share `decay` of itself."""
        raise AssertionError("stored scores are never refreshed, the callback refuses that")

    def tensors(self, module: PreferenceModule) -> dict[str, Tensor]:
        """Name -> the reference's own parameters, as far as a refresh changes them."""
        return {}

    def restore(self, module: PreferenceModule, stored: Mapping[str, Tensor]) -> None:
        """Write the full tensors that `gathered` made of `tensors` back into them.

        Raises:
            ValueError: the names differ.
        """
        kept = self.tensors(module)
        if differing := sorted(stored.keys() ^ kept.keys()):
            raise ValueError(
                f"the checkpoint's refreshed reference is another policy's: {differing[0]} is in one of them only"
            )
        with torch.no_grad():
            for name, tensor in kept.items():
                # Every rank has read the full tensor, and takes its own shard of it.
                value = stored[name].to(tensor.device, tensor.dtype)
                if isinstance(tensor, DTensor):
                    value = distribute_tensor(value, tensor.device_mesh, tensor.placements)
                tensor.copy_(value)


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


class CachedSource(ReferenceSource):
    """Scores from side shards.

    Args:
        paths: the caches' indexes; each serves the shards that it was made from.
    """

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths
        self._caches: dict[ReferenceSplit, ReferenceCache] = {}
        self._head_checked = False

    def setup(self, trainer: Trainer, module: PreferenceModule) -> None:
        """Refuse a method whose scores no cache can hold, and a cache of other views, before weights are loaded.

        Raises:
            ValueError: it is a flow model's; or the cache was made from other frames, or of another pixel budget.
        """
        refuse_flow(module, "cached")
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        for split in data.splits(trainer.state.fn) if hasattr(data, "splits") else ():
            if data.paths[split] is not None and not data.resample_each_epoch:
                # Which answers are scored is known later only: other callbacks may still add terms.
                self._cache_of(data, split).check(data.views_fingerprint(split), (), (), (), skip=True)

    def prepare(self, trainer: Trainer, module: PreferenceModule, split: ReferenceSplit) -> None:
        """Choose the cache of the split's shards, and refuse it where it does not fit the run.

        Raises:
            ValueError: there is none; or lists all that does not fit.
        """
        if split in self._caches:
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if data.paths[split] is None:
            return
        refuse_resampling(data)
        index, cache = data.index(split), self._cache_of(data, split)
        assert isinstance(module, AnswerModule)
        hidden = [f"{view}/{answer}" for view, answer in module.kept_hidden()]
        keys, skip = list(index.positions), data.on_bad_sample == "skip"
        cache.check(data.views_fingerprint(split), names_of(module.needs()), hidden, keys, skip)
        self._caches[split] = cache

    def _cache_of(self, data: Any, split: ReferenceSplit) -> ReferenceCache:
        """The cache of a split's shards.

        Raises:
            ValueError: none was made from them.
        """
        index = data.index(split)
        caches = [ReferenceCache(path) for path in self.paths]
        # One cache can only be meant for these shards: then it says what differs.
        fitting = [cache for cache in caches if cache.fingerprint == index.fingerprint] or caches[: len(caches) == 1]
        if not fitting:
            raise ValueError(
                f"none of {', '.join(self.paths)} was made from the {split} shards (fingerprint {index.fingerprint}); "
                f"run `vidpref predict` on them with ReferenceCacheWriter, and name the cache in ReferenceModel.cache"
            )
        return fitting[0]

    def scores(
        self, module: PreferenceModule, batch: VistaBatch, split: ReferenceSplit
    ) -> tuple[AnswerScores, Head | None]:
        """The stored scores; hidden states come in the order in which the policy has them.

        Raises:
            ValueError: a sample or an answer is missing, or the output head trains while hidden states are stored.
        """
        assert isinstance(module, AnswerModule)
        if not module.kept_hidden():
            return self._caches[split].scores(batch), None
        scores = self._caches[split].scores(batch, module.encoded(batch).hidden_answer)
        self._check_head(module, scores)
        return scores, None

    def _check_head(self, module: AnswerModule, scores: AnswerScores) -> None:
        """Refuse a head that trains: logits follow from cached hidden states while the head is the one at their making.

        Raises:
            ValueError: the head trains.
        """
        if self._head_checked:
            return
        assert scores.hidden is not None
        # One row through the head says it: a graph begins at whatever parameter of it trains.
        with torch.enable_grad(), module.policy.reference_mode():
            trains = module.policy.logits(scores.hidden[:1]).requires_grad
        if trains:
            raise ValueError(
                "ReferenceModel: mode is cached and the token term is on, but the output head trains: the reference's "
                "logits no longer follow from its cached hidden states. Freeze the head, set the token term's weight "
                "to 0, or use mode adapter or copy"
            )
        self._head_checked = True


def refuse_flow(module: PreferenceModule, mode: str) -> None:
    """Raise a ValueError for a method whose scores no store can hold."""
    if not isinstance(module, AnswerModule):
        raise ValueError(
            f"ReferenceModel: mode is {mode}, but the scores of {type(module).__name__} are errors at a time and "
            "under a noise that are drawn again in every epoch, so none of them is ever asked for twice; use mode "
            "adapter, or copy for full fine-tuning"
        )


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


def gathered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Full copies on the CPU; every rank must call it, as sharded tensors are gathered."""
    return {
        # A copy also where it is on the CPU: training goes on while the checkpoint is written.
        name: (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().to("cpu", copy=True)
        for name, tensor in tensors.items()
    }
