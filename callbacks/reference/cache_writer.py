"""Writes the reference's scores of a data set, once, for the training runs that read them from there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from lightning.pytorch import LightningModule, Trainer

from callbacks.reference.cache import SCHEMA, SUFFIX, names_of, packed, refuse_resampling
from callbacks.reference.former_cache import settings_in_current_words
from callbacks.writers.shards import ShardWriter
from datamodules.stream.predict_outputs import WrittenSample
from datamodules.vista.batches import VistaBatch
from datamodules.vista.samples import AnswerScores
from lightning_modules.policy_loading import settings_and_contents


class ReferenceCacheWriter(ShardWriter):
    """Shard writer callback: the reference's scores from `predict_step` in side shards and ``OUTPUT.index.json``.

    The index's `made_from` names the source shards, the views (frames, seed, negatives), the policy, and the samples
    that could not be read (``skipped``). Padding is left out. As every `ShardWriter` it continues an interrupted pass,
    says that a complete cache is there, and refuses one that was made otherwise.

    Args:
        output: folder and common name of the shards, as ``runs/cache/train``; on a file system that all ranks see.
        samples_per_shard: samples in a shard.
    """

    noun = "reference scores"
    schema: ClassVar[str | None] = SCHEMA

    def __init__(self, output: str, samples_per_shard: int = 256) -> None:
        super().__init__(output, samples_per_shard)

    def made_from(self, trainer: Trainer, module: Any) -> dict[str, Any]:
        """What the scores of the `predict` shards depend on: shards, views, answers, policy.

        Raises:
            ValueError: the negatives are drawn again in every epoch, so that no score stays valid.
        """
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        return scored_from(data, module, "predict")

    def current_words(self, made_from: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a finished cache says it was made from, in the words of this version."""
        return settings_in_current_words(made_from)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse terms that came into use after this callback was set up.

        Raises:
            ValueError: the scores are of other answers than the index would name.
        """
        if any(self.settings[name] != answers for name, answers in _answers(pl_module).items()):
            raise ValueError(
                "ReferenceCacheWriter: another callback changed which answers are scored; name ReferenceCacheWriter "
                "last in trainer.callbacks"
            )

    def samples(self, outputs: AnswerScores, batch: VistaBatch) -> Iterator[WrittenSample]:
        """The batch's samples, without padding and without those that could not be read."""
        for sample, key in enumerate(batch.keys):
            if batch.real[sample]:
                content, facts = packed(batch, sample, outputs)
                yield WrittenSample(key, {SUFFIX: content}, facts)


def scored_from(data: Any, module: Any, split: str) -> dict[str, Any]:
    """What the scores of a split depend on: shards, views, answers, policy.

    Raises:
        ValueError: the negatives are drawn again in every epoch, so that no score stays valid.
    """
    refuse_resampling(data)
    # How an adapter would be made does not matter to the reference, so nested settings are left out.
    policy = settings_and_contents(module.policy, nested=False)
    return {**data.views_fingerprint(split), "policy": policy, **_answers(module)}


def _answers(module: Any) -> dict[str, list[str]]:
    """The "view/answer" names that are scored, and those of them whose hidden states are kept."""
    hidden = sorted(f"{view}/{answer}" for view, answer in module.kept_hidden())
    return {"answers": names_of(module.needs()), "hidden": hidden}
