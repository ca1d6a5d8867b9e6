"""What was skipped is in the log and on disk."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks.bad_samples import BadSamples
from tests.support.quiet_trainer import quiet_trainer


class Line(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.layer(batch).sum()  # type: ignore[no-any-return]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Data(LightningDataModule):
    def __init__(self, bad: dict[str, str]) -> None:
        super().__init__()
        self.bad_samples = bad

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(torch.ones(2, 1))  # type: ignore[arg-type]


def run(folder: Path, bad: dict[str, str]) -> list[dict[str, str]]:
    trainer = quiet_trainer(default_root_dir=folder, max_epochs=1, logger=CSVLogger(folder), callbacks=[BadSamples()])
    trainer.fit(Line(), datamodule=Data(bad))
    metrics = Path(str(trainer.logger.log_dir)) / "metrics.csv"  # type: ignore[union-attr]
    return list(csv.DictReader(metrics.open())) if metrics.exists() else []


def test_skipped_samples_are_counted_and_listed_with_the_reason(tmp_path: Path) -> None:
    bad = {"b": "shard b.tar, sample b: undecodable video", "a": "checksum"}
    rows = run(tmp_path, bad)
    assert float(rows[-1]["bad_samples"]) == 2
    assert json.loads((tmp_path / "bad_samples.json").read_text()) == bad


def test_without_any_there_is_neither_count_nor_list(tmp_path: Path) -> None:
    assert run(tmp_path, {}) == []
    assert not (tmp_path / "bad_samples.json").exists()
