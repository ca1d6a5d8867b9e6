"""However a run is stopped: started again, it reads, validates, counts and ends as one that was never stopped."""

from __future__ import annotations

import csv
import signal
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint, timer
from lightning.pytorch.loggers import CSVLogger

from callbacks.reference.model import ReferenceModel
from callbacks.resume import Resume
from callbacks.stop_signals import StopSignals
from tests.support.numbered_runs import Numbers, Trace, kept_handlers
from tests.support.preference_fakes import make_module, make_trainer
from tests.support.shard_samples import small_shards

#: Nine samples: an epoch has four steps of two samples, and the plan's epochs end within one.
SAMPLES, EPOCHS, STEPS = 9, 3, 12


class Clock(Callback):
    """The seconds by which a limit of time is measured: a step takes one."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def on_before_zero_grad(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.now = float(trainer.global_step)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.now = float(trainer.global_step)


class StopIn(Callback):
    """Stops a run from within step number `step` + 1, after its first micro-batch's gradients."""

    def __init__(self, how: str, step: int) -> None:
        self.how, self.step = how, step

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        if trainer.global_step == self.step:
            if self.how == "exception":
                raise RuntimeError("stopped")
            signal.raise_signal(signal.SIGINT if self.how == "interrupt" else signal.SIGTERM)


class Run:
    """A command that is started again and again in one folder."""

    def __init__(self, folder: Path, shards: str, every: int, accumulation: int, **settings: Any) -> None:
        self.folder, self.shards, self.every, self.accumulation = folder, shards, every, accumulation
        self.settings = {"max_epochs": EPOCHS, **settings}

    def start(self, *callbacks: Callback, **changes: Any) -> Trace:
        trace = Trace()
        save = ModelCheckpoint(
            self.folder,
            every_n_train_steps=self.every,
            save_last=True,
            save_on_exception=True,
            enable_version_counter=False,
        )
        settings: dict[str, Any] = {"steps": -1, **self.settings, **changes}
        trainer = make_trainer(
            [ReferenceModel(), Resume(), trace, *callbacks, StopSignals(), save],
            enable_checkpointing=True,
            accumulate_grad_batches=self.accumulation,
            logger=CSVLogger(self.folder, name="logs"),
            **settings,
        )
        last = self.folder / "last.ckpt"
        module = make_module()
        module.schedule = "linear"
        data = Numbers(self.shards, 2 // self.accumulation)
        trainer.fit(module, data, ckpt_path=last if last.exists() else None, weights_only=True)
        return trace

    def rows(self) -> list[dict[str, dict[int, tuple[int, float]]]]:
        """For each start what its CSV says of training and validation: row's step -> (epoch, learning rate or loss)."""
        starts = sorted((self.folder / "logs").iterdir(), key=lambda folder: int(folder.name.rpartition("_")[2]))
        rows = []
        for start in starts:
            kinds: dict[str, dict[int, tuple[int, float]]] = {"train/lr": {}, "val/loss": {}}
            path = start / "metrics.csv"  # none where nothing was left to do
            for row in csv.DictReader(path.read_text().splitlines() if path.exists() else ()):
                for name, values in kinds.items():
                    if row.get(name):
                        values[int(row["step"])] = int(row["epoch"]), round(float(row[name]), 6)
            rows.append(kinds)
        return rows


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("shards")
    small_shards(folder, SAMPLES)
    return str(folder / "train.index.json")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timer, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    with kept_handlers():
        yield


def stop(run: Run, way: str, step: int, clock: Clock) -> Trace:
    """Start a run that is stopped after a step, or within the next one."""
    if way == "max_steps":
        return run.start(steps=step)
    if way == "max_time":
        return run.start(clock, max_time=timedelta(seconds=step))
    if way == "limit":
        return run.start(limit_train_batches=step * run.accumulation, max_epochs=1)
    trace = Trace()
    with suppress(RuntimeError, SystemExit):
        run.start(trace, StopIn(way, step))
    return trace


def assert_as_unbroken(run: Run, whole: Run, traces: list[Trace], extra: set[int]) -> None:
    """All starts together did what the unbroken run did; `extra` = steps whose validation belongs to the stop."""
    expected = whole.start()
    assert sorted(expected.keys) == list(range(1, STEPS + 1))
    assert {step: keys for trace in traces for step, keys in trace.keys.items()} == expected.keys
    for trace in traces:
        assert all(expected.keys[step] == keys for step, keys in trace.keys.items())
    validated = {step for trace in traces for step in trace.validated}
    assert validated - extra == set(expected.validated) - extra
    (unbroken,), last = whole.rows(), run.rows()[-1]
    rates, losses = unbroken["train/lr"], unbroken["val/loss"]
    assert {step: rate for step, rate in rates.items() if step in last["train/lr"]} == last["train/lr"]
    epochs = {step: epoch for start in run.rows() for step, (epoch, _) in start["train/lr"].items()}
    assert epochs == {step: epoch for step, (epoch, _) in rates.items()}
    assert all(losses[step][0] == epoch for step, (epoch, _) in last["val/loss"].items())


END: dict[str, Any] = {}
WITHIN: dict[str, Any] = {"val_check_interval": 0.5}
ACROSS: dict[str, Any] = {"check_val_every_n_epoch": None, "val_check_interval": 3}
SECOND: dict[str, Any] = {"check_val_every_n_epoch": 2}
#: Without a last epoch Lightning goes on in another manner.
BY_STEPS: dict[str, Any] = {"max_epochs": -1, "steps": STEPS}


@pytest.mark.parametrize(
    ("way", "step", "every", "accumulation", "settings"),
    [
        ("max_steps", 6, 100, 1, END),
        ("max_steps", 4, 1, 1, END),
        ("max_steps", 4, 100, 1, SECOND | BY_STEPS),
        ("max_steps", 7, 3, 2, WITHIN),
        ("max_time", 6, 100, 1, WITHIN),
        ("max_time", 5, 100, 2, ACROSS | {"val_check_interval": 6}),
        ("limit", 2, 100, 1, END),
        ("interrupt", 6, 100, 1, WITHIN),
        ("interrupt", 4, 4, 1, END),
        ("interrupt", 11, 1, 1, END),
        ("terminate", 6, 100, 1, ACROSS),
        ("terminate", 5, 100, 2, WITHIN),
        ("terminate", 8, 1, 2, BY_STEPS),
        ("terminate", 7, 100, 2, SECOND),
        ("exception", 6, 100, 2, WITHIN),
        ("exception", 8, 1, 2, BY_STEPS),
        ("exception", 3, 100, 1, SECOND),
    ],
)
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(
    tmp_path: Path,
    shards: str,
    clock: Clock,
    way: str,
    step: int,
    every: int,
    accumulation: int,
    settings: dict[str, Any],
) -> None:
    run, whole = (Run(tmp_path / name, shards, every, accumulation, **settings) for name in ("run", "whole"))
    traces = [stop(run, way, step, clock), run.start()]
    # Lightning validates when a limit of time or of batches ends a run, wherever that is.
    assert_as_unbroken(run, whole, traces, {step} if way in ("max_time", "limit") else set())


def test_each_start_has_its_own_time(tmp_path: Path, shards: str, clock: Clock) -> None:
    run = Run(tmp_path, shards, 100, 1)
    starts = [run.start(clock, max_time=timedelta(seconds=5)) for _ in range(3)]
    assert [len(trace.keys) for trace in starts] == [5, 5, 2]


def test_a_validation_that_was_due_at_the_checkpoint_is_made(tmp_path: Path, shards: str) -> None:
    """The run ends within it; the checkpoint of the same step was written before it."""

    class FailIn(Callback):
        def on_validation_batch_start(self, trainer: Any, *rest: Any) -> None:
            if trainer.global_step == 8 and rest[2] == 1:
                raise RuntimeError("stopped")

    run, whole = Run(tmp_path / "run", shards, 4, 1), Run(tmp_path / "whole", shards, 4, 1)
    first = Trace()
    with pytest.raises(RuntimeError, match="stopped"):
        run.start(first, FailIn())
    assert (first.validated, sorted(first.keys)[-1]) == ([4], 8)
    assert_as_unbroken(run, whole, [first, run.start()], set())


def test_a_run_that_is_over_stays_over(tmp_path: Path, shards: str) -> None:
    run = Run(tmp_path, shards, 100, 1)
    assert len(run.start().keys) == STEPS
    again = run.start()
    assert (again.keys, again.validated) == ({}, [])
