"""The table of samples: what it shows, when, and that other loggers hear nothing."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from torch.utils.data import DataLoader

from callbacks.metrics.sample_table import SampleTable
from datamodules.vista.batches import VistaBatch
from datamodules.vista.samples import AnswerName, View, ViewName
from tests.support.quiet_trainer import quiet_trainer

wandb = pytest.importorskip("wandb", reason="the wandb extra is not installed")


def view(sample: int, name: ViewName, *answers: AnswerName) -> View:
    frames = torch.full((6, 3, 20, 40), 40 * sample, dtype=torch.uint8)
    return View(sample, name, frames, f"question {sample}", {answer: f"{answer} {sample}" for answer in answers})


def batch() -> VistaBatch:
    """Three samples: one full, one of whom nothing but the original is known, and padding."""
    views = [
        view(0, "original", "chosen", "rejected", "irrelevant"),
        view(0, "video_negative", "chosen"),
        view(1, "original", "chosen", "rejected"),
        view(2, "original", "chosen"),
    ]
    return VistaBatch(["a", "b", "padding"], views, torch.tensor([True, True, False]))


def outputs() -> dict[str, Any]:
    def term(samples: list[int], chosen: list[float]) -> Any:
        rewards = torch.tensor(chosen)
        return SimpleNamespace(samples=samples, chosen_rewards=rewards, rejected_rewards=-rewards)

    plain = SimpleNamespace(samples=[0], chosen_rewards=None, rejected_rewards=None)
    return {"terms": {"response": term([0, 1], [0.5, 1.5]), "video": term([0], [2.5]), "supervised": plain}}


def test_table_rows() -> None:
    columns, rows = SampleTable().table(batch(), outputs()["terms"])
    assert [row[0] for row in rows] == ["a", "b"]
    first, second = (dict(zip(columns, row, strict=True)) for row in rows)
    assert first["prompt"] == "question 0"
    assert (first["rejected"], first["irrelevant"], second["irrelevant"]) == ("rejected 0", "irrelevant 0", "")
    assert (first["response/chosen"], first["response/rejected"], second["response/chosen"]) == (0.5, -0.5, 1.5)
    assert (first["video/chosen"], second["video/chosen"]) == (2.5, None)
    assert isinstance(first["video_negative"], wandb.Image)
    assert second["video_negative"] is None
    assert not any(column.startswith("supervised") for column in columns)


def test_rows_are_limited() -> None:
    assert len(SampleTable(max_samples=1).table(batch(), outputs()["terms"])[1]) == 1


def test_strip_puts_frames_side_by_side() -> None:
    frames = torch.arange(6, dtype=torch.uint8).mul(40).view(6, 1, 1, 1).expand(6, 3, 20, 40)
    strip = SampleTable(max_frames=3, height=10).strip(frames)
    assert strip.shape == (3, 10, 60)
    assert strip[0, 5, [10, 30, 50]].tolist() == [0, 80, 200]


def trainer(step: int, logger: Any) -> Any:
    return SimpleNamespace(global_step=step, loggers=[logger], is_global_zero=True)


def step(table: SampleTable, run: Any) -> None:
    module: Any = None
    table.on_train_batch_start(run, module, batch(), 0)
    run.global_step += 1  # Lightning counts a step before it says that its batch has ended
    table.on_train_batch_end(run, module, outputs(), batch(), 0)


def test_wandb_gets_a_table_every_n_steps(tmp_path: Path) -> None:
    logger = WandbLogger(project="test", save_dir=tmp_path, offline=True)
    table = SampleTable(every_n_steps=10)
    for number in (0, 1, 9, 10, 11, 20):
        step(table, trainer(number, logger))
    folder = Path(logger.experiment.dir)
    wandb.finish()
    tables = list(folder.rglob("*.table.json"))
    assert len(tables) == 3
    assert json.loads(tables[0].read_text())["columns"][:2] == ["key", "prompt"]


class Module(BoringModel):
    """Logs the number of each of its steps."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("train/step", float(self.global_step))
        return {"loss": self.layer.weight.sum(), **outputs()}


class Recording(WandbLogger):
    """Keeps steps in place of sending them."""

    def __init__(self) -> None:
        super().__init__(project="test", offline=True)
        self.tables: list[int] = []
        self.metrics: list[tuple[int, float]] = []

    def log_table(self, key: str, *args: Any, step: int | None = None, **options: Any) -> None:
        assert step is not None
        self.tables.append(step)

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        assert step is not None
        self.metrics += [(step, metrics["train/step"])] if "train/step" in metrics else []

    def log_hyperparams(self, *args: Any, **options: Any) -> None:
        return None

    @property
    def experiment(self) -> Any:
        return SimpleNamespace(config=SimpleNamespace(update=lambda *_, **__: None))


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_table_has_the_step_of_the_metrics_that_were_logged_with_it(tmp_path: Path, accumulation: int) -> None:
    logger = Recording()
    run = quiet_trainer(
        logger=logger,
        callbacks=[SampleTable(every_n_steps=2)],
        max_steps=5,
        accumulate_grad_batches=accumulation,
        log_every_n_steps=1,
        default_root_dir=tmp_path,
    )
    run.fit(Module(), DataLoader([batch() for _ in range(10)], batch_size=None))
    assert dict(logger.metrics) == {step: float(step) for step in range(5)}
    assert logger.tables == [0, 2, 4]


def test_other_loggers_hear_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SampleTable, "table", lambda *_: pytest.fail("a table was made for nobody"))
    step(SampleTable(), trainer(1, CSVLogger(tmp_path)))
    assert not list(tmp_path.iterdir())


def test_rhythm_survives_a_resume() -> None:
    table, again = SampleTable(every_n_steps=100), SampleTable(every_n_steps=100)
    step(table, trainer(7, None))  # the eighth step
    again.load_state_dict(table.state_dict())
    assert again.state_dict() == {"next_step": 107}


def test_interval_must_be_positive() -> None:
    with pytest.raises(ValueError, match="every_n_steps is 0"):
        SampleTable(every_n_steps=0)
