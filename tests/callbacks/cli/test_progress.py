"""The progress bar and the numbers it shows."""

from __future__ import annotations

import io
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from rich.console import Console
from torch.distributed import HashStore
from torch.utils._python_dispatch import TorchDispatchMode

import callbacks.metrics.throughput
from callbacks.cli.progress import Progress, seconds_left
from callbacks.metrics.throughput import Throughput, num_samples
from datamodules.stream.hand_out import HandOut
from datamodules.vista.batches import VistaBatch
from tests.support.command_fakes import TinyData, TinyModule, TinyPolicy
from tests.support.predict_fakes import Maker, Source
from tests.support.predict_fakes import trainer_with as predict_trainer
from tests.support.quiet_trainer import quiet_trainer


def trainer_with(metrics: dict[str, float], step: int = 0, total: float = 100) -> Any:
    return SimpleNamespace(
        callback_metrics={name: torch.tensor(value) for name, value in metrics.items()},
        progress_bar_metrics={"mine": torch.tensor(3.0)},
        global_step=step,
        estimated_stepping_batches=total,
    )


def test_metrics_show_loss_terms_speed_and_time_left() -> None:
    metrics = {
        "train/loss": 1.871,
        "train/loss/response": 0.6931,
        "train/loss/video": 0.7,
        "train/rewards/accuracies": 0.5,
        "train/samples_per_second": 12.34,
        "train/step_seconds": 2.0,
    }
    shown = Progress().get_metrics(trainer_with(metrics, step=40), None)  # type: ignore[arg-type]
    assert shown == {
        "loss": "1.871",
        "response": "0.6931",
        "video": "0.7",
        "mine": "3",
        "samples/s": "12.3",
        "left": "0:02:00",
    }


@pytest.mark.parametrize(
    ("metrics", "total", "left"),
    [({}, 10, None), ({"train/step_seconds": 0.5}, float("inf"), None), ({"train/step_seconds": 0.5}, 10, 3.0)],
)
def test_seconds_left(metrics: dict[str, float], total: float, left: float | None) -> None:
    assert seconds_left(trainer_with(metrics, step=4, total=total)) == left


def test_without_a_terminal_it_writes_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=False, width=200)
    monkeypatch.setattr("lightning.pytorch.callbacks.progress.rich_progress.get_console", lambda: console)
    callbacks = [Throughput(), Progress(seconds_between_lines=0.0)]
    trainer = quiet_trainer(callbacks=callbacks, max_epochs=1, enable_progress_bar=True)
    trainer.fit(TinyModule(TinyPolicy("x"), lambda p: torch.optim.SGD(p, lr=0.1)), TinyData("x"))
    lines = [line for line in written.getvalue().splitlines() if line.startswith("step ")]
    assert [line.partition(":")[0] for line in lines] == ["step 1", "step 2", "step 3", "step 4"]
    assert all("loss " in line and "response " in line and "samples/s " in line for line in lines)
    assert "left 0:00:00" in lines[-1]


class Halves(TinyModule):
    """Logs sums that are whole with the second micro-batch of a step only."""

    def training_step(self, batch: VistaBatch, batch_idx: int) -> dict[str, Any]:
        output = super().training_step(batch, batch_idx)
        self.log("train/loss/sum", 1.0 + batch_idx % 2, batch_size=2)
        return output


@pytest.mark.parametrize("terminal", [False, True])
def test_a_half_accumulated_step_is_never_shown(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=terminal, width=200)
    monkeypatch.setattr("lightning.pytorch.callbacks.progress.rich_progress.get_console", lambda: console)
    seen: list[tuple[int, str]] = []
    read = Progress.get_metrics

    def get_metrics(self: Progress, trainer: Trainer, module: Any) -> dict[str, Any]:
        shown = read(self, trainer, module)
        seen.append((trainer.global_step, shown["sum"]))
        return shown

    monkeypatch.setattr(Progress, "get_metrics", get_metrics)
    callbacks = [Progress(refresh_rate=10**9, seconds_between_lines=0.0)]
    trainer = quiet_trainer(callbacks=callbacks, max_epochs=1, accumulate_grad_batches=2, enable_progress_bar=True)
    trainer.fit(Halves(TinyPolicy("x"), lambda p: torch.optim.SGD(p, lr=0.1)), TinyData("x", batches=6))
    assert {step for step, _ in seen} == {1, 2, 3}
    assert {value for _, value in seen} == {"2"}
    lines = [line for line in written.getvalue().splitlines() if line.startswith("step ")]
    assert [line.partition(":")[0] for line in lines] == ([] if terminal else ["step 1", "step 2", "step 3"])


@pytest.mark.parametrize(("epochs", "name"), [(5, "Epoch 3/4"), (-1, "Epoch 3"), (None, "Epoch 3")])
def test_the_name_of_an_epoch(epochs: int | None, name: str) -> None:
    bar = Progress()
    bar._trainer = SimpleNamespace(max_epochs=epochs, sanity_checking=False)  # type: ignore[assignment]
    assert bar._get_train_description(3).strip() == name


def test_predict_writes_lines_too(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=False, width=200)
    monkeypatch.setattr("lightning.pytorch.callbacks.progress.rich_progress.get_console", lambda: console)
    bar = Progress(seconds_between_lines=1000.0)
    predict_trainer([bar]).predict(Maker(), Source(["a", "b", "c", "d", "e"]), return_predictions=False)
    lines = [line for line in written.getvalue().splitlines() if line.startswith("predict: ")]
    assert [line.partition(",")[0] for line in lines] == ["predict: 1 of 3 batches", "predict: 3 of 3 batches"]
    assert lines[-1].endswith("left 0:00:00")


def test_batches_that_ranks_take_by_need_are_counted_over_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    written, store = io.StringIO(), HashStore()
    console = Console(file=written, force_terminal=False, width=200)
    monkeypatch.setattr("lightning.pytorch.callbacks.progress.rich_progress.get_console", lambda: console)

    class Loader:
        hand_out = HandOut(8, store, "pass")

        def __len__(self) -> int:
            return self.hand_out.batches

        def __iter__(self) -> Iterator[list[str]]:
            return self.hand_out.counted(["a"] for _ in self.hand_out)

    data, other = Source([]), HandOut(8, store, "pass")
    numbers = iter(other)
    of_other = other.counted(numbers)
    assert [next(of_other) for _ in range(3)] == [0, 1, 2], "two are made, the third is in its hands"
    monkeypatch.setattr(data, "predict_dataloader", Loader)
    predict_trainer([Progress(seconds_between_lines=1000.0)]).predict(Maker(), data, return_predictions=False)
    lines = [line for line in written.getvalue().splitlines() if line.startswith("predict: ")]
    assert lines[0].startswith("predict: 3 of 8 batches of all ranks, left 0:00:0")
    assert lines[1:] == ["predict: 7 of 8 batches of all ranks; other ranks make the last ones"]


# Throughput


class Clock:
    """A clock whose readings are given."""

    def __init__(self, readings: list[float]) -> None:
        self.readings: Iterator[float] = iter(readings)

    def __call__(self) -> float:
        return next(self.readings)


class Log:
    def __init__(self) -> None:
        self.last: dict[str, float] = {}

    def log_dict(self, values: dict[str, float], batch_size: int) -> None:
        self.last = values


def batch_of(size: int, padding: int = 0) -> VistaBatch:
    mask = torch.tensor([True] * (size - padding) + [False] * padding)
    return VistaBatch([str(n) for n in range(size)], [], mask)


def test_throughput_over_ranks_accumulation_and_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work of 1, 2 and 2 s, a wait of 1 s before the second batch; 3 ranks, 2 micro-batches a step."""
    monkeypatch.setattr(callbacks.metrics.throughput, "perf_counter", Clock([10, 11, 12, 14, 50, 52]))
    trainer: Any = SimpleNamespace(world_size=3, accumulate_grad_batches=2)
    speed, log = Throughput(window=2), Log()
    module: Any = log
    speed.on_train_batch_start(trainer, module, batch_of(4), 0)
    speed.on_train_batch_end(trainer, module, None, batch_of(4), 0)
    assert log.last == {"train/samples_per_second": 12.0, "train/step_seconds": 2.0, "train/data_wait": 0.0}
    speed.on_train_batch_start(trainer, module, batch_of(4), 1)
    speed.on_train_batch_end(trainer, module, None, batch_of(4, padding=2), 1)
    assert log.last == {"train/samples_per_second": 3 * 6 / 4, "train/step_seconds": 4.0, "train/data_wait": 0.25}
    speed.on_validation_end(trainer, module)  # the 36 s until the next batch are nobody's
    speed.on_train_batch_start(trainer, module, batch_of(4), 2)
    speed.on_train_batch_end(trainer, module, None, batch_of(4), 2)
    assert log.last == {"train/samples_per_second": 3 * 6 / 5, "train/step_seconds": 5.0, "train/data_wait": 0.2}


def test_num_samples() -> None:
    assert num_samples(batch_of(4, padding=1)) == 3
    assert num_samples(torch.zeros(3)) == 1


class Reads(TorchDispatchMode):
    """Counts values that are read from tensors, for each of which a GPU is waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_samples_are_counted_without_waiting_for_the_device() -> None:
    """Of a batch that knows them as numbers, and of one of flow models, whose mask is on the device."""
    trainer: Any = SimpleNamespace(world_size=2, accumulate_grad_batches=1)
    mask = SimpleNamespace(mask=torch.tensor([True, True, False]))
    with Reads() as reads:
        for batch in (batch_of(3, padding=1), mask):
            speed, log = Throughput(), Log()
            speed.on_train_batch_start(trainer, log, batch, 0)  # type: ignore[arg-type]
            speed.on_train_batch_end(trainer, log, None, batch, 0)  # type: ignore[arg-type]
            seconds = speed.beats[0].worked
            rate = log.last["train/samples_per_second"]
            assert reads.count == 0
            assert float(rate) == pytest.approx(2 * 2 / seconds)
            reads.count = 0


def test_window_must_be_positive() -> None:
    with pytest.raises(ValueError, match="window is 0"):
        Throughput(window=0)
