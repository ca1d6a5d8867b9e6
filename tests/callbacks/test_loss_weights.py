from __future__ import annotations

import logging
import warnings
from typing import Any

import pytest
from lightning.pytorch import Callback

from callbacks.loss_weights import Constant, Cosine, Linear, LossWeights, Piecewise
from callbacks.reference.model import ReferenceModel
from lightning_modules.vista_dpo import VistaWeights
from tests.support.preference_fakes import Batches, FakePairs, make_batch, make_module, make_trainer

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Seen(Callback):
    def __init__(self) -> None:
        self.weights: list[dict[str, float]] = []
        self.logged: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.weights.append(dict(pl_module.weights))
        self.logged.append({name: float(value) for name, value in trainer.callback_metrics.items()})


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(0.3), {0: 0.3, 1000: 0.3}),
        (Linear(0.0, 1.0, steps=4, begin=2), {0: 0.0, 2: 0.0, 3: 0.25, 6: 1.0, 100: 1.0}),
        (Linear(1.0, 0.0, steps=10), {0: 1.0, 5: 0.5, 10: 0.0, 11: 0.0}),
        (Cosine(0.0, 1.0, steps=4), {0: 0.0, 1: 0.1464466, 2: 0.5, 4: 1.0, 9: 1.0}),
        (Piecewise([(2, 0.0), (4, 1.0), (5, 0.2)]), {0: 0.0, 2: 0.0, 3: 0.5, 4: 1.0, 5: 0.2, 9: 0.2}),
    ],
)
def test_schedules_give_their_points(schedule: Any, expected: dict[int, float]) -> None:
    assert {step: schedule.at(step) for step in expected} == pytest.approx(expected, abs=1e-6)
    assert schedule.peak() == max(schedule.at(step) for step in range(200))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Constant(-0.1), "weight is -0.1"),
        (lambda: Linear(0.0, float("nan"), 3), "weight is nan"),
        (lambda: Cosine(0.0, 1.0, steps=0), "steps is 0"),
        (lambda: Piecewise([(3, 1.0), (3, 0.0)]), "steps rising"),
        (lambda: Piecewise([]), "at least one point"),
    ],
)
def test_impossible_schedules_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_weights_follow_the_optimizer_step_and_are_logged_for_all_terms() -> None:
    seen = Seen()
    weights = LossWeights({"video": Linear(0.0, 1.0, steps=2), "token": Constant(0.5)})
    module = make_module(weights=VistaWeights(clip=0, object=0, video=0))
    batches = FakePairs([make_batch([n], total=2) for n in range(6)])
    make_trainer([weights, ReferenceModel(), seen], steps=3, accumulate_grad_batches=2).fit(module, batches)
    assert [values["video"] for values in seen.weights] == [0.0, 0.0, 0.5, 0.5, 1.0, 1.0]
    assert {values["token"] for values in seen.weights} == {0.5}
    assert [values["train/weight/video"] for values in seen.logged] == [0.0, 0.0, 0.5, 0.5, 1.0, 1.0]
    assert seen.logged[-1]["train/weight/clip"] == 0.0
    assert "train/loss/video" in seen.logged[0], "a term that rises later is in use from the start"


def test_a_term_that_stays_at_zero_asks_for_no_view() -> None:
    rising, never = make_module(weights=VistaWeights(1, 0, 0, 0, 0)), make_module(weights=VistaWeights(1, 0, 0, 0, 0))
    trainer = make_trainer([])
    LossWeights({"clip": Piecewise([(100, 0.0), (200, 0.4)])}).setup(trainer, rising, "fit")
    LossWeights({"clip": Constant(0.0)}).setup(trainer, never, "fit")
    assert {"clip", "clip_negative"} <= set(rising.needs())
    assert "clip" not in never.needs()


def test_an_unknown_term_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"\['clips'\].*'clip', 'object', 'response', 'token', 'video'"):
        LossWeights({"clips": Constant(1.0)}).setup(make_trainer([]), make_module(), "fit")


@pytest.mark.filterwarnings("ignore:You.re resuming from a checkpoint that ended before")
def test_state_survives_a_resume_and_another_schedule_is_said(tmp_path: Any) -> None:
    def schedules(end: float = 1.0) -> LossWeights:
        return LossWeights({"video": Linear(0.0, end, steps=10)})

    first = make_trainer([schedules(), ReferenceModel()], steps=3)
    first.fit(make_module(), FakePairs([make_batch([n]) for n in range(6)]))
    first.save_checkpoint(tmp_path / "run.ckpt")

    seen = Seen()
    second = make_trainer([schedules(), ReferenceModel(), seen], steps=5)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="LossWeights")
        second.fit(make_module(), FakePairs([make_batch([n]) for n in range(6)]), ckpt_path=tmp_path / "run.ckpt")
    assert [values["video"] for values in seen.weights] == pytest.approx([0.3, 0.4])

    seen = Seen()
    third = make_trainer([schedules(2.0), ReferenceModel(), seen], steps=4)
    with pytest.warns(UserWarning, match="LossWeights: the checkpoint was written with"):
        third.fit(make_module(), FakePairs([make_batch([n]) for n in range(6)]), ckpt_path=tmp_path / "run.ckpt")
    assert [values["video"] for values in seen.weights] == pytest.approx([0.6]), "the configured schedule wins"


def test_validating_a_checkpoint_weighs_as_training_did(tmp_path: Any) -> None:
    data = FakePairs([make_batch([n]) for n in range(6)], val=[make_batch([7, 8])])
    weights = LossWeights({"video": Linear(0.0, 1.0, steps=4)})
    trainer = make_trainer([weights, ReferenceModel()], steps=3, limit_val_batches=0)
    trainer.fit(make_module(), data)
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    module = make_module()
    fresh = LossWeights({"video": Linear(0.0, 1.0, steps=4)})
    make_trainer([fresh, ReferenceModel()]).validate(module, data, ckpt_path=tmp_path / "run.ckpt", verbose=False)
    assert module.weights["video"] == pytest.approx(0.5), "the weight of the last step that was trained"
    assert len(Batches(data.train)) == 6


@pytest.mark.filterwarnings("ignore:You.re resuming from a checkpoint that ended before")
def test_a_validation_within_a_resumed_fit_leaves_the_configured_weights(tmp_path: Any) -> None:
    data = FakePairs([make_batch([n]) for n in range(6)], val=[make_batch([7, 8])])
    first = make_trainer([LossWeights({"token": Constant(0.5)}), ReferenceModel()], steps=1, limit_val_batches=0)
    first.fit(make_module(), data)
    first.save_checkpoint(tmp_path / "run.ckpt")
    seen = Seen()
    module = make_module(weights=VistaWeights(clip=0, object=0, video=0.25))
    callbacks = [LossWeights({"token": Constant(0.5)}), ReferenceModel(), seen]
    make_trainer(callbacks, steps=5, val_check_interval=2).fit(module, data, ckpt_path=tmp_path / "run.ckpt")
    assert {values["video"] for values in seen.weights} == {0.25}
