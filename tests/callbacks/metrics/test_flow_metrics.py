from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn

from callbacks.metrics.flow import FlowMetrics
from lightning_modules.dense_dpo import FlowTerm
from tests.support.preference_fakes import Batches, make_trainer
from tests.support.two_ranks import LeaveGroup, two_ranks


def make_term(margins: list[float], times: list[float], errors: tuple[list[float], list[float]]) -> FlowTerm:
    """A term whose chosen rewards are the margins and whose rejected rewards are 0."""
    chosen = torch.tensor(margins)
    return FlowTerm(
        values=torch.nn.functional.softplus(-chosen),
        samples=list(range(len(margins))),
        chosen_rewards=chosen,
        rejected_rewards=torch.zeros_like(chosen),
        draw=0.5,
        times=torch.tensor(times),
        winner_errors=torch.tensor(errors[0]),
        loser_errors=torch.tensor(errors[1]),
    )


SMALL = make_term([0.0, 2.0, -8.0], [0.1, 0.15, 0.5], ([-0.2, -0.4], [0.1, 0.3]))
LARGE = make_term([6.0], [0.999], ([0.6], [0.2]))
EMPTY = make_term([], [], ([], []))


class Terms(LightningModule):
    """Its batches are the terms themselves."""

    def __init__(self, folder: str | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.folder = folder

    def training_step(self, batch: dict[str, FlowTerm], batch_idx: int) -> dict[str, Any]:
        return {"loss": self.weight * 0, "terms": batch}

    def validation_step(self, batch: dict[str, FlowTerm], batch_idx: int) -> dict[str, Any]:
        return {"terms": batch}

    def on_fit_end(self) -> None:
        if self.folder:
            (Path(self.folder) / f"{self.global_rank}.json").write_text(json.dumps(logged(self.trainer)))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class Data(LightningDataModule):
    """One batch a step; without terms, each rank has its own."""

    def __init__(self, terms: list[FlowTerm] | None = None, val: list[FlowTerm] | None = None) -> None:
        super().__init__()
        self.terms, self.val = terms, val

    def own(self) -> list[FlowTerm]:
        return [EMPTY, LARGE] if self.trainer.global_rank else [SMALL, EMPTY]

    def train_dataloader(self) -> Any:
        return Batches([{"preference": term} for term in (self.own() if self.terms is None else self.terms)])

    def val_dataloader(self) -> Any:
        return Batches([{"preference": term} for term in (self.own() if self.val is None else self.val)])


def logged(trainer: Any) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def softplus(value: float) -> float:
    return float(torch.nn.functional.softplus(torch.tensor(value)))


def check(metrics: dict[str, float], prefix: str) -> None:
    """What `SMALL` and `LARGE` together are."""
    values = {name.removeprefix(f"{prefix}/"): value for name, value in metrics.items() if name.startswith(prefix)}
    assert values["error/winner"] == pytest.approx(0.0, abs=1e-6)
    assert values["error/loser"] == pytest.approx(0.2)
    assert values["saturation"] == pytest.approx(0.5)
    assert values["logits/q50"] == pytest.approx(2.0, rel=0.1)
    assert values["logits/q99"] == pytest.approx(8.0, rel=0.1)
    assert values["loss_by_time/0-0.2"] == pytest.approx((softplus(0.0) + softplus(-2.0)) / 2)
    assert values["accuracies_by_time/0-0.2"] == pytest.approx(0.75)
    assert values["loss_by_time/0.4-0.6"] == pytest.approx(softplus(8.0))
    assert values["accuracies_by_time/0.4-0.6"] == 0.0
    assert values["accuracies_by_time/0.8-1"] == 1.0
    assert "loss_by_time/0.2-0.4" not in values


def test_a_logged_value_covers_all_micro_batches_also_those_of_ties() -> None:
    trainer = make_trainer([FlowMetrics()], steps=1, accumulate_grad_batches=3)
    trainer.fit(Terms(), Data([SMALL, EMPTY, LARGE], val=[]))
    check(logged(trainer), "train")


def test_validation_covers_the_whole_set() -> None:
    trainer = make_trainer([FlowMetrics()])
    trainer.validate(Terms(), Data(val=[LARGE, SMALL]), verbose=False)
    check(logged(trainer), "val")


def test_ties_alone_log_nothing() -> None:
    trainer = make_trainer([FlowMetrics()], steps=1)
    trainer.fit(Terms(), Data([EMPTY], val=[EMPTY]))
    assert logged(trainer) == {}


@pytest.mark.parametrize("scale", [0.0, 1e-6, 0.03, 1.0, 500.0, 1e6])
def test_quantiles_are_right_to_a_tenth(scale: float) -> None:
    size: Tensor = scale * torch.rand(2000, generator=torch.Generator().manual_seed(0))
    term = make_term(size.tolist(), [0.5] * 2000, ([0.0], [0.0]))
    callback = FlowMetrics()
    metrics = callback.named("train", "preference", callback.sums({"terms": {"preference": term}})["preference"])
    for percent in (50, 90, 99):
        exact = float(size.quantile(percent / 100))
        # Below 1e-4 and above 1e4 everything is one.
        assert metrics[f"train/logits/q{percent}"] == pytest.approx(min(exact, 1e4), rel=0.1, abs=1e-4)


@pytest.mark.parametrize("settings", [{"bound": 0.0}, {"time_bins": 0}])
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="both must be positive"):
        FlowMetrics(**settings)


@pytest.mark.slow
def test_ranks_with_unequal_ties_log_what_one_process_does(tmp_path: Path) -> None:
    with two_ranks() as settings:
        trainer = make_trainer([FlowMetrics(), LeaveGroup()], steps=1, accumulate_grad_batches=2, **settings)
        trainer.fit(Terms(str(tmp_path)), Data())
    for rank in (0, 1):
        metrics = json.loads((tmp_path / f"{rank}.json").read_text())
        check(metrics, "train")
        check(metrics, "val")
