"""The losses by which a user selects checkpoints: all items, weighted, of this validation alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from callbacks.reference.model import ReferenceModel
from datamodules.dense.batches import PairBatch
from datamodules.vista.batches import VistaBatch
from lightning_modules.preference import PreferenceModule
from lightning_modules.supervised_flow import SupervisedFlow
from lightning_modules.vista_dpo import VistaDPO, VistaWeights
from tests.support.flow_fakes import LABELS, Given, TinyFlow, dense_module, latent_batch, pair_batch
from tests.support.preference_fakes import FakePairs, TinyPolicy, make_batch, make_trainer

WEIGHTS = VistaWeights(response=1.0, video=0.25, clip=0.0, object=0.0, token=0.5)
#: Four samples in two batches of unequal size, so that a mean over batches differs from one over items.
BATCHES = [[7, 8, 9], [3]]


class Losses(Callback):
    """Every `val/` value at the end of each validation, and every `train/` value at each micro-batch."""

    def __init__(self) -> None:
        self.val: list[dict[str, float]] = []
        self.train: list[dict[str, float]] = []

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self.val.append(losses(trainer, "val"))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.train.append(losses(trainer, "train"))


def losses(trainer: Any, prefix: str) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith(f"{prefix}/loss")}


def vista(start: float = 0.5, lr: float = 0.0, weights: VistaWeights = WEIGHTS) -> VistaDPO:
    """A policy that differs from its reference, so that no two terms are equal."""
    optimizer = partial(torch.optim.SGD, lr=lr)
    return VistaDPO(TinyPolicy(start=start), optimizer, weights=weights, schedule="constant", warmup=0.0)


def expected(module: PreferenceModule, batches: Sequence[Any], prefix: str = "val") -> dict[str, float]:
    """The means over the items of all batches, and their weighted sum, from the terms alone."""
    module.policy.load()
    values: dict[str, list[torch.Tensor]] = {}
    for batch in batches:
        with torch.no_grad():
            if isinstance(batch, VistaBatch | PairBatch):
                with module.policy.reference_mode():
                    batch.reference = module.scores(batch)
            for name, term in module.terms(batch).items():
                values.setdefault(name, []).append(term.values)
    means = {name: float(torch.cat(parts).mean()) for name, parts in values.items()}
    total = sum(module.weights[name] * mean for name, mean in means.items())
    return {f"{prefix}/loss": total} | {f"{prefix}/loss/{name}": mean for name, mean in means.items()}


def vista_batches() -> list[VistaBatch]:
    return [make_batch(BATCHES[0], masked=(1,)), make_batch(BATCHES[1])]


def test_validation_logs_each_terms_mean_over_items_and_their_weighted_sum() -> None:
    module = vista()
    trainer = make_trainer([ReferenceModel()])
    trainer.validate(module, FakePairs([], val=vista_batches()), verbose=False)
    logged = losses(trainer, "val")
    assert logged == pytest.approx(expected(vista(), vista_batches()))
    assert set(logged) == {"val/loss", "val/loss/response", "val/loss/video", "val/loss/token"}
    assert len({round(value, 4) for value in logged.values()}) == len(logged), "equal values would hide a mistake"


@pytest.mark.parametrize("form", [{}, {"form": "per_video"}, {"granularity": "whole"}])
def test_validation_of_pairs_weighs_every_item_the_same(form: dict[str, Any]) -> None:
    """Batches with unequal numbers of ties, one of ties alone."""

    def batches() -> list[PairBatch]:
        return [pair_batch(LABELS[:3]), pair_batch([LABELS[1]], first=5), pair_batch([LABELS[3]], first=7)]

    module, again = (dense_module(TinyFlow(start=0.5), supervised_weight=0.25, **form) for _ in range(2))
    trainer = make_trainer([ReferenceModel()])
    trainer.validate(module, Given([], val=batches()), verbose=False)
    logged = losses(trainer, "val")
    assert logged == pytest.approx(expected(again, batches()))
    assert set(logged) == {"val/loss", "val/loss/preference", "val/loss/supervised"}


def test_validation_of_supervised_training_is_the_mean_over_videos() -> None:
    module, again = (SupervisedFlow(TinyFlow(start=0.5), warmup=0) for _ in range(2))
    trainer = make_trainer([])
    trainer.validate(module, Given([], val=[latent_batch(3, masked=(0,)), latent_batch(1)]), verbose=False)
    assert losses(trainer, "val") == pytest.approx(expected(again, [latent_batch(3, masked=(0,)), latent_batch(1)]))


def test_a_second_validation_knows_nothing_of_the_first() -> None:
    module = vista()
    for samples in ([1, 2], [5]):
        trainer = make_trainer([ReferenceModel()])
        trainer.validate(module, FakePairs([], val=[make_batch(samples)]), verbose=False)
        assert losses(trainer, "val") == pytest.approx(expected(vista(), [make_batch(samples)]))


def test_a_validation_after_one_that_broke_off_starts_from_nothing() -> None:
    class Broken(Callback):
        def on_validation_batch_end(self, *args: Any, **settings: Any) -> None:
            raise OSError("the disk is full")

    module = vista()
    with pytest.raises(OSError, match="disk is full"):
        make_trainer([ReferenceModel(), Broken()]).validate(
            module, FakePairs([], val=[make_batch([1, 2])]), verbose=False
        )
    trainer = make_trainer([ReferenceModel()])
    trainer.validate(module, FakePairs([], val=[make_batch([5])]), verbose=False)
    assert losses(trainer, "val") == pytest.approx(expected(vista(), [make_batch([5])]))


def test_each_validation_of_a_fit_is_of_the_weights_at_that_step_and_selects_the_checkpoint(tmp_path: Path) -> None:
    seen = Losses()
    best = ModelCheckpoint(tmp_path, "{step}", monitor="val/loss", mode="max", save_top_k=1)
    data = FakePairs([make_batch([n]) for n in range(4)], val=vista_batches())
    settings = {"enable_checkpointing": True, "val_check_interval": 2}
    module = vista(lr=0.5)
    make_trainer([ReferenceModel(), seen, best], steps=4, **settings).fit(module, data)
    assert len(seen.val) == 2
    assert seen.val[0]["val/loss"] != pytest.approx(seen.val[1]["val/loss"], rel=1e-3), "the weights must move"
    # After the fit the module has the last step's weights.
    assert seen.val[1] == pytest.approx(expected(module, vista_batches()))
    assert float(best.best_model_score) == pytest.approx(max(values["val/loss"] for values in seen.val))
    first_is_best = seen.val[0]["val/loss"] > seen.val[1]["val/loss"]
    assert Path(best.best_model_path).name == f"step={2 if first_is_best else 4}.ckpt"


def test_training_logs_the_weighted_sum_of_its_terms() -> None:
    seen = Losses()
    trainer = make_trainer([ReferenceModel(), seen], steps=2)
    trainer.fit(vista(), FakePairs([make_batch([1, 2]), make_batch([5])]))
    for logged, samples in zip(seen.train, ([1, 2], [5]), strict=True):
        assert logged == pytest.approx(expected(vista(), [make_batch(samples)], "train"))
