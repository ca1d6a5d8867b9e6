"""Logged training losses: what several ranks exchange for them, and the numbers that come of it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger

from callbacks.reference.model import ReferenceModel
from tests.support.preference_fakes import Batches, FakePairs, make_batch, make_module, make_trainer
from tests.support.two_ranks import LeaveGroup, two_ranks

LOSSES = ("train/loss", "train/loss/response", "train/loss/video", "train/loss/token")


class Exchanges(Callback):
    """Writes, for each micro-batch of a rank, its losses and how many collectives of the Python interface it made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, Any]] = []
        self.counts: dict[str, int] = {}

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        for name in ("all_reduce", "barrier", "broadcast", "all_gather"):
            setattr(dist, name, self._counted(name, getattr(dist, name)))

    def _counted(self, name: str, call: Any) -> Any:
        def counted(*arguments: Any, **more: Any) -> Any:
            self.counts[name] = self.counts.get(name, 0) + 1
            return call(*arguments, **more)

        return counted

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        # Lightning's own broadcast, which the command takes out, comes before.
        self.counts.clear()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        terms = {name: term.values.sum() / batch.denominators[name] for name, term in outputs["terms"].items()}
        weighted = sum(pl_module.weights[name] * mean for name, mean in terms.items())
        values = {"train/loss": float(weighted)} | {f"train/loss/{name}": float(mean) for name, mean in terms.items()}
        self.rows.append({"counts": dict(self.counts), "losses": values})

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        (self.folder / f"rank-{trainer.global_rank}.json").write_text(json.dumps(self.rows))


class RankPairs(FakePairs):
    """Every rank its own half of the batches, in turn."""

    def train_dataloader(self) -> Any:
        return Batches(self.train[self.trainer.global_rank :: 2])


def step_means(ranks: list[list[dict[str, Any]]], first: int, name: str) -> float:
    """The mean over the two micro-batches of the step that begins with micro-batch `first`, then over ranks."""
    means = [torch.tensor([row["losses"][name] for row in rows[first : first + 2]]).mean(0) for rows in ranks]
    return float((means[0] + means[1]) / 2)


@pytest.mark.slow
def test_two_ranks_exchange_one_vector_on_logged_steps(tmp_path: Path) -> None:
    """12 micro-batches in 6 steps, every third logged; rank 1 has no item of a term that rank 0 has items of."""
    batches = [make_batch([number]) for number in range(24)]
    for number in range(1, 24, 2):
        views = [view for view in batches[number].views if view.name != "video_negative"]
        batches[number] = replace(batches[number], views=views)
    logger = CSVLogger(tmp_path, name="", version="run")
    settings: dict[str, Any] = {"logger": logger, "accumulate_grad_batches": 2, "log_every_n_steps": 3}
    callbacks = [ReferenceModel(guard_every_n_steps=0), Exchanges(tmp_path), LeaveGroup()]
    with two_ranks() as spawned:
        make_trainer(callbacks, steps=6, **settings, **spawned).fit(make_module(), RankPairs(batches))

    ranks = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2)]
    logged = {"barrier": 1, "all_reduce": 1}
    for rows in ranks:
        # Steps 3 and 6 end with the micro-batches 5 and 11.
        assert [row["counts"] for row in rows] == [logged if number in (5, 11) else {} for number in range(12)]
    with (tmp_path / "run" / "metrics.csv").open() as file:
        written = list(csv.DictReader(file))
    assert [row["step"] for row in written] == ["2", "5"]
    for row, first in zip(written, (4, 10), strict=True):
        assert {name: float(row[name]) for name in LOSSES} == {name: step_means(ranks, first, name) for name in LOSSES}


class StopAt(Callback):
    """Makes a step the last one, after its losses were handed over."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        trainer.should_stop = batch_idx == 1


@pytest.mark.slow
def test_a_step_that_becomes_the_last_one_is_logged_with_its_own_losses(tmp_path: Path) -> None:
    batches = [make_batch([number]) for number in range(12)]
    logger = CSVLogger(tmp_path, name="", version="run")
    settings: dict[str, Any] = {"logger": logger, "log_every_n_steps": 5}
    callbacks = [ReferenceModel(), StopAt(), Exchanges(tmp_path), LeaveGroup()]
    with two_ranks() as spawned:
        make_trainer(callbacks, steps=6, **settings, **spawned).fit(make_module(), RankPairs(batches))
    ranks = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2)]
    with (tmp_path / "run" / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    means = [torch.tensor(rows[1]["losses"]["train/loss"]) for rows in ranks]
    assert (row["step"], float(row["train/loss"])) == ("1", float((means[0] + means[1]) / 2))
