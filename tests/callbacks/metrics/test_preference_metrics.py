from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule
from torch import nn

from callbacks.metrics.preference import STATISTICS, PreferenceMetrics, reward_statistics
from lightning_modules.terms import Term
from tests.support.preference_fakes import Batches, make_trainer
from tests.support.two_ranks import LeaveGroup, two_ranks


def make_term(chosen: list[float], rejected: list[float]) -> Term:
    count = len(chosen)
    return Term(torch.zeros(count), list(range(count)), torch.tensor(chosen), torch.tensor(rejected))


class Rewards(LightningModule):
    """Its batches are the terms themselves."""

    def __init__(self, folder: str | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.folder = folder

    def training_step(self, batch: dict[str, Term], batch_idx: int) -> dict[str, Any]:
        return {"loss": self.weight * 0, "terms": batch}

    def validation_step(self, batch: dict[str, Term], batch_idx: int) -> dict[str, Any]:
        return {"terms": batch}

    def on_fit_end(self) -> None:
        if self.folder:
            text = json.dumps(logged(self.trainer))
            (Path(self.folder) / f"{self.global_rank}.json").write_text(text)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class Terms(LightningDataModule):
    def __init__(self, train: list[dict[str, Term]], val: list[dict[str, Term]] | None = None) -> None:
        super().__init__()
        self.train, self.val = train, val or []

    def share(self) -> list[dict[str, Term]]:
        """Three samples on one rank, one on the other."""
        first = make_term([1.0, 3.0, 7.0], [0.0, 1.0, 0.0])
        return [{"video": make_term([2.0], [3.0]) if self.trainer.global_rank else first}]

    def train_dataloader(self) -> Any:
        return Batches(self.train or self.share())

    def val_dataloader(self) -> Any:
        return Batches(self.val or (self.share() if not self.train else []))


def logged(trainer: Any) -> dict[str, float]:
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def rewards_under(name: str, values: list[float]) -> dict[str, float]:
    return {f"{name}/{key}": value for key, value in zip(STATISTICS, values, strict=True)}


def test_statistics_of_a_pair_and_of_a_draw() -> None:
    statistics = reward_statistics(torch.tensor([1.0, -2.0, 3.0]), torch.tensor([0.5, 1.0, 3.0]))
    expected = [[1.0, -2.0, 3.0], [0.5, 1.0, 3.0], [0.5, -3.0, 0.0], [1.0, 0.0, 0.0]]
    assert torch.equal(statistics, torch.tensor(expected))


def test_training_logs_each_term_and_the_response_term_without_a_name() -> None:
    terms = {"response": make_term([1.0, 3.0], [2.0, 0.0]), "object": make_term([4.0], [1.0])}
    trainer = make_trainer([PreferenceMetrics()], steps=1)
    trainer.fit(Rewards(), Terms([terms]))
    response = [2.0, 1.0, 1.0, 0.5]
    expected = rewards_under("train/rewards/response", response) | rewards_under("train/rewards", response)
    expected |= rewards_under("train/rewards/object", [4.0, 1.0, 3.0, 1.0])
    assert logged(trainer) == pytest.approx(expected)


def test_a_logged_value_covers_all_samples_since_the_last_one_unevenly_spread() -> None:
    steps = [
        make_term([1.0, 1.0, 1.0], [0.0, 0.0, 0.0]),
        make_term([5.0], [6.0]),
        make_term([], []),
        make_term([9.0], [0.0]),
    ]
    trainer = make_trainer([PreferenceMetrics()], steps=2, accumulate_grad_batches=2, log_every_n_steps=1)
    trainer.fit(Rewards(), Terms([{"video": term} for term in steps]))
    assert logged(trainer) == pytest.approx(rewards_under("train/rewards/video", [9.0, 0.0, 9.0, 1.0]))

    trainer = make_trainer([PreferenceMetrics()], steps=2, accumulate_grad_batches=2, log_every_n_steps=2)
    trainer.fit(Rewards(), Terms([{"video": term} for term in steps]))
    assert logged(trainer) == pytest.approx(rewards_under("train/rewards/video", [17 / 5, 6 / 5, 11 / 5, 4 / 5]))


def test_a_term_without_preference_or_without_samples_is_not_logged() -> None:
    plain = Term(torch.ones(2), [0, 1])
    trainer = make_trainer([PreferenceMetrics()], steps=1)
    trainer.fit(Rewards(), Terms([{"supervised": plain, "object": make_term([], [])}]))
    assert logged(trainer) == {}


def test_validation_is_the_mean_over_samples_not_over_batches() -> None:
    val = [
        {"response": make_term([1.0, 2.0, 3.0], [0.0, 0.0, 9.0]), "object": make_term([], [])},
        {"response": make_term([-2.0], [0.0]), "object": make_term([], [])},
    ]
    trainer = make_trainer([PreferenceMetrics()])
    trainer.validate(Rewards(), Terms([], val), verbose=False)
    response = [1.0, 9 / 4, 1.0 - 9 / 4, 0.5]
    expected = rewards_under("val/rewards/response", response) | rewards_under("val/rewards", response)
    assert logged(trainer) == pytest.approx(expected)


def test_a_second_validation_starts_afresh() -> None:
    callback, module = PreferenceMetrics(), Rewards()
    for chosen in (1.0, 5.0):
        trainer = make_trainer([callback])
        trainer.validate(module, Terms([], [{"video": make_term([chosen], [0.0])}]), verbose=False)
        assert logged(trainer)["val/rewards/video/chosen"] == pytest.approx(chosen)


def test_a_validation_after_one_that_broke_off_starts_from_nothing() -> None:
    class Broken(Callback):
        def on_validation_batch_end(self, *args: Any, **settings: Any) -> None:
            raise OSError("the disk is full")

    callback, module = PreferenceMetrics(), Rewards()
    with pytest.raises(OSError, match="disk is full"):
        make_trainer([callback, Broken()]).validate(
            module, Terms([], [{"video": make_term([1.0], [0.0])}]), verbose=False
        )
    trainer = make_trainer([callback])
    trainer.validate(module, Terms([], [{"video": make_term([5.0], [0.0])}]), verbose=False)
    assert logged(trainer)["val/rewards/video/chosen"] == pytest.approx(5.0)


def test_a_second_fit_starts_from_nothing() -> None:
    """The first one ends between two logged steps."""
    callback = PreferenceMetrics()
    make_trainer([callback], steps=1, log_every_n_steps=2).fit(Rewards(), Terms([{"video": make_term([1.0], [0.0])}]))
    trainer = make_trainer([callback], steps=1)
    trainer.fit(Rewards(), Terms([{"video": make_term([5.0], [0.0])}]))
    assert logged(trainer)["train/rewards/video/chosen"] == pytest.approx(5.0)


@pytest.mark.slow
def test_ranks_with_unequal_numbers_of_samples_give_the_mean_over_samples(tmp_path: Path) -> None:
    with two_ranks() as settings:
        trainer = make_trainer([PreferenceMetrics(), LeaveGroup()], steps=1, **settings)
        trainer.fit(Rewards(str(tmp_path)), Terms([], []))
    logged_by_rank = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    expected = rewards_under("train/rewards/video", [13 / 4, 1.0, 9 / 4, 3 / 4])
    expected |= rewards_under("val/rewards/video", [13 / 4, 1.0, 9 / 4, 3 / 4])
    assert logged_by_rank[0] == pytest.approx(expected)
    assert logged_by_rank[1] == pytest.approx(expected)
