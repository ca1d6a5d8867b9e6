"""References whose scores were stored before the run."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Trainer

from callbacks.reference.cache import ReferenceCache, names_of, refuse_resampling
from callbacks.reference.sources import ReferenceSource, ReferenceSplit
from datamodules.vista.batches import VistaBatch
from datamodules.vista.samples import AnswerScores
from lightning_modules.answer_module import AnswerModule
from lightning_modules.losses.log_probs import Head
from lightning_modules.preference import PreferenceModule


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
