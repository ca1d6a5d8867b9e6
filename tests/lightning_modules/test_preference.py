"""What every method does with its terms, its optimizer and its checkpoints, on a policy of two matrices."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger

from callbacks.metrics.preference import PreferenceMetrics
from callbacks.reference.model import ReferenceModel
from lightning_modules.vista_dpo import VistaDPO, VistaWeights
from tests.support.preference_fakes import FakePairs, TinyPolicy, make_batch, make_module, make_trainer


class Seen(Callback):
    """What was logged and the optimizer's settings at every micro-batch."""

    def __init__(self) -> None:
        self.logged: list[dict[str, float]] = []
        self.settings: list[dict[str, Any]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.logged.append({name: float(value) for name, value in trainer.callback_metrics.items()})

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        (group,) = trainer.optimizers[0].param_groups
        self.settings.append({name: group[name] for name in ("lr", "weight_decay", "momentum")})


def pairs(count: int = 6) -> FakePairs:
    return FakePairs([make_batch([number]) for number in range(count)])


def module_with(**optimizer: Any) -> VistaDPO:
    weights = VistaWeights(clip=0, object=0)
    return VistaDPO(TinyPolicy(), partial(torch.optim.SGD, **optimizer), weights=weights, warmup=0.0)


def test_the_logged_loss_is_that_of_the_whole_step() -> None:
    """Two of three micro-batches have no item of a term; nothing trains, so that every step's terms are ln 2."""
    seen, batches = Seen(), []
    for number in range(6):
        batch = make_batch([number], masked=(0,) if number % 3 else ())
        batch.denominators = dict.fromkeys(batch.denominators, 1 / 3)  # one item in the step, three micro-batches
        batches.append(batch)
    trainer = make_trainer([ReferenceModel(), seen], steps=2, accumulate_grad_batches=3)
    trainer.fit(make_module(lr=0.0), FakePairs(batches))
    for last in (seen.logged[2], seen.logged[5]):
        assert last["train/loss/response"] == pytest.approx(math.log(2), abs=1e-6)
        assert last["train/loss/video"] == pytest.approx(math.log(2), abs=1e-6)


def test_a_term_without_samples_is_an_empty_cell_and_not_a_loss_of_0(tmp_path: Path) -> None:
    """The second step has no video negative, the third has one in one of two micro-batches."""
    with_video = [True, True, False, False, False, True, True, True]
    batches = [make_batch([number]) for number in range(8)]
    for number, there in enumerate(with_video):
        views = [view for view in batches[number].views if there or view.name != "video_negative"]
        denominators = dict.fromkeys(batches[number].denominators, 1.0)
        batches[number] = replace(batches[number], views=views, denominators=denominators)
    batches[5].denominators["video"] = 0.5  # one item in the step, two micro-batches
    logger, seen = CSVLogger(tmp_path), Seen()
    settings: dict[str, Any] = {"logger": logger, "accumulate_grad_batches": 2}
    trainer = make_trainer([ReferenceModel(), PreferenceMetrics(), seen], steps=4, **settings)
    trainer.fit(make_module(lr=0.0), FakePairs(batches))
    with Path(logger.log_dir, "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in ("train/loss/video", "train/rewards/video/margins"):
        assert [row[name] != "" for row in rows] == [True, False, True, True], name
    assert [float(row["train/loss/video"]) for row in rows if row["train/loss/video"]] == pytest.approx(
        [math.log(2)] * 3
    )
    for row in rows:
        assert float(row["train/loss/response"]) == pytest.approx(math.log(2))
    assert "train/loss/video" not in seen.logged[3]


def test_a_step_without_any_item_has_no_loss_instead_of_a_loss_of_0(tmp_path: Path) -> None:
    """The second step has padding alone, the third in one of two micro-batches."""
    padding = [False, False, True, True, False, True, False, False]
    batches = [make_batch([number], masked=(0,) if masked else ()) for number, masked in enumerate(padding)]
    for batch, items in zip(batches, (2, 2, 1, 1, 1, 1, 2, 2), strict=True):
        batch.denominators = dict.fromkeys(batch.denominators, items / 2)  # items of the step over its micro-batches
    logger = CSVLogger(tmp_path)
    settings: dict[str, Any] = {"logger": logger, "accumulate_grad_batches": 2, "log_every_n_steps": 1}
    module = make_module(lr=0.0)
    make_trainer([ReferenceModel()], steps=4, **settings).fit(module, FakePairs(batches))
    with Path(logger.log_dir, "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    loss = math.log(2) * sum(module.weights[name] for name in module.active())
    assert [row["train/loss"] for row in rows][1] == ""
    assert [float(row["train/loss"]) for row in rows if row["train/loss"]] == pytest.approx([loss] * 3)
    assert float(rows[1]["train/lr"]) == 0.0, "the step itself is logged"


def test_a_validation_without_any_item_has_no_loss() -> None:
    trainer = make_trainer([ReferenceModel()])
    trainer.validate(make_module(), FakePairs([], val=[make_batch([1], masked=(0,))]), verbose=False)
    assert not [name for name in trainer.callback_metrics if name.startswith("val/loss")]
    trainer.validate(make_module(), FakePairs([], val=[make_batch([1])]), verbose=False)
    assert float(trainer.callback_metrics["val/loss"]) > 0


def saved(folder: Path, module: VistaDPO) -> Path:
    trainer = make_trainer([ReferenceModel()], steps=2)
    trainer.fit(module, pairs())
    trainer.save_checkpoint(folder / "run.ckpt")
    return folder / "run.ckpt"


@pytest.mark.filterwarnings("ignore:You.re resuming from a checkpoint that ended before")
def test_the_configured_optimizer_beats_the_checkpoints(tmp_path: Path) -> None:
    path = saved(tmp_path, module_with(lr=0.1, momentum=0.9))
    seen = Seen()
    changed = module_with(lr=0.01, momentum=0.9, weight_decay=0.5)
    make_trainer([ReferenceModel(), seen], steps=4).fit(changed, pairs(), ckpt_path=path)
    # Linear over the last 3 of 4 steps, of which 2 are done.
    assert [settings["lr"] for settings in seen.settings] == pytest.approx([0.02 / 3, 0.01 / 3])
    assert {(settings["momentum"], settings["weight_decay"]) for settings in seen.settings} == {(0.9, 0.5)}


@pytest.mark.filterwarnings("ignore:You.re resuming from a checkpoint that ended before")
def test_tensors_of_another_shape_are_named_and_no_traceback(tmp_path: Path) -> None:
    path = saved(tmp_path, module_with(lr=0.1))
    module = module_with(lr=0.1)
    module.policy.load()
    for parameter in module.policy.parameters():
        if parameter.requires_grad:
            parameter.data = torch.zeros([2 * size for size in parameter.shape])
    with pytest.raises(ValueError, match=r"cannot resume: 2 trainable tensors .* was \(2, 8\), is \(4, 16\)"):
        make_trainer([ReferenceModel()]).fit(module, pairs(), ckpt_path=path)


def test_a_validation_that_is_no_number_names_its_samples() -> None:
    module = make_module(start=math.nan)
    trainer = make_trainer([ReferenceModel()])
    with pytest.raises(FloatingPointError, match=r"the loss is nan .* samples of this batch: s3"):
        trainer.validate(module, FakePairs([], val=[make_batch([3])]), verbose=False)


def test_weights_of_zero_alone_are_refused_before_weights_load() -> None:
    module = make_module(weights=VistaWeights(0, 0, 0, 0, 0))
    with pytest.raises(ValueError, match="no term has a weight"):
        make_trainer([ReferenceModel()]).fit(module, pairs())


def test_weights_of_16_bits_do_not_train() -> None:
    module = module_with(lr=0.1)
    module.policy.load()
    module.policy.bfloat16()
    with pytest.raises(ValueError, match=r"trainable tensors are of a 16-bit type.*policy\.dtype float32"):
        make_trainer([ReferenceModel()]).fit(module, pairs())


def test_the_learning_rate_is_logged_once_a_step_beside_the_loss(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    trainer = make_trainer([ReferenceModel()], steps=3, accumulate_grad_batches=3, logger=logger, log_every_n_steps=1)
    trainer.fit(module_with(lr=0.1), pairs(9))
    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["train/lr"]) for row in rows if row.get("train/loss")] == pytest.approx([0.1, 0.1, 0.05])
    assert len(rows) == 3


def test_a_run_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match=r"the run has no end; give --trainer\.max_steps"):
        make_trainer([ReferenceModel()], steps=-1, max_epochs=-1).fit(make_module(), pairs())
