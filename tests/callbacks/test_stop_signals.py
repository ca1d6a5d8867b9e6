"""SIGTERM and SIGUSR1: the last whole step is saved at once, whatever is begun, and nothing waits for ever."""

from __future__ import annotations

import csv
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger

from callbacks.recovery import Recovery
from callbacks.reference.model import ReferenceModel
from callbacks.resume import Resume
from callbacks.stop_signals import STOPPED, StopSignals
from datamodules.stream.worker_signals import STOP_SIGNALS, ignore_stop_signals
from tests.support.numbered_runs import Numbers, Trace, kept_handlers
from tests.support.preference_fakes import FakePairs, make_batch, make_module, make_trainer
from tests.support.shard_samples import small_shards

MICRO_BATCHES = 256


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    with kept_handlers():
        yield


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr("callbacks.stop_signals.rank_zero_info", lines.append)
    return lines


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("shards")
    small_shards(folder, 2 * MICRO_BATCHES, per_shard=64)
    return str(folder / "train.index.json")


class SignalIn(Callback):
    """Sends a signal to this process within a micro-batch, and notes when."""

    def __init__(self, number: signal.Signals, step: int, micro_batch: int) -> None:
        self.number, self.step, self.micro_batch = number, step, micro_batch
        self.at = 0.0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if (trainer.global_step, batch_idx % trainer.accumulate_grad_batches + 1) == (self.step, self.micro_batch):
            self.at = time.monotonic()
            signal.raise_signal(self.number)


def fit(folder: Path, shards: str, *callbacks: Callback, accumulation: int = MICRO_BATCHES, **settings: Any) -> Trace:
    """Two steps of 256 micro-batches, or of as many as are given."""
    trace = Trace()
    trainer = make_trainer(
        [ReferenceModel(), Resume(), trace, StopSignals(), *callbacks, Recovery()],
        enable_checkpointing=True,
        default_root_dir=str(folder),
        accumulate_grad_batches=accumulation,
        **{"steps": 2, "limit_val_batches": 0, "logger": CSVLogger(folder, name="logs"), **settings},
    )
    last = folder / "checkpoints/last.ckpt"
    trainer.fit(make_module(), Numbers(shards, 1), ckpt_path=last if last.exists() else None, weights_only=True)
    return trace


def trained(folder: Path) -> dict[str, Any]:
    checkpoint = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    return {"step": checkpoint["global_step"], **checkpoint["state_dict"]}


def assert_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(torch.as_tensor(one[name]), torch.as_tensor(other[name])) for name in one)


@pytest.fixture(scope="module")
def unbroken(shards: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, list[str]]]:
    """A run's folder, and the keys of its steps."""
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, fit(folder, shards).keys


@pytest.mark.slow
@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_in_micro_batch_3_of_256_the_whole_steps_are_saved_at_once(
    tmp_path: Path,
    shards: str,
    unbroken: tuple[Path, dict[int, list[str]]],
    number: signal.Signals,
    messages: list[str],
) -> None:
    whole, keys = unbroken
    sender = SignalIn(number, step=1, micro_batch=3)
    with pytest.raises(SystemExit) as stopped:
        fit(tmp_path / "run", shards, sender)
    assert time.monotonic() - sender.at < 10
    assert stopped.value.code == STOPPED == 143
    path = tmp_path / "run/checkpoints/last.ckpt"
    assert messages == [
        f"stopped by {number.name} after micro-batch 3 of 256 of optimizer step 2, which is made again. {path} holds "
        "step 1; the same command with --ckpt_path last goes on from there (exit status 143)"
    ]
    assert trained(tmp_path / "run")["step"] == 1
    rest = fit(tmp_path / "run", shards)
    assert rest.keys == {2: keys[2]}
    assert_equal(trained(tmp_path / "run"), trained(whole))


def test_at_a_steps_end_its_losses_are_logged(tmp_path: Path, shards: str) -> None:
    with pytest.raises(SystemExit):
        fit(tmp_path, shards, SignalIn(signal.SIGTERM, step=2, micro_batch=2), accumulation=2, steps=5)
    assert trained(tmp_path)["step"] == 3
    rows = csv.DictReader((tmp_path / "logs/version_0/metrics.csv").read_text().splitlines())
    assert [row["step"] for row in rows if row["train/loss"]] == ["0", "1", "2"]


def test_before_the_first_step_nothing_is_saved(tmp_path: Path, shards: str, messages: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        fit(tmp_path, shards, SignalIn(signal.SIGTERM, step=0, micro_batch=3))
    assert stopped.value.code == STOPPED
    assert "No step was finished, so nothing is saved" in messages[0]
    assert not (tmp_path / "checkpoints/last.ckpt").exists()


def test_within_a_validation_it_is_made_again(tmp_path: Path, shards: str) -> None:
    class SignalInValidation(Callback):
        def on_validation_batch_start(self, trainer: Any, *rest: Any) -> None:
            if trainer.global_step == 4 and rest[2] == 1:
                signal.raise_signal(signal.SIGTERM)

    settings: dict[str, Any] = {
        "accumulation": 2, "steps": 6, "limit_val_batches": 1.0, "val_check_interval": 4,
    }  # fmt: skip
    first = Trace()
    with pytest.raises(SystemExit):
        fit(tmp_path, shards, first, SignalInValidation(), **settings)
    assert (trained(tmp_path)["step"], first.validated) == (4, [2])
    rest = fit(tmp_path, shards, **settings)
    assert (sorted(rest.keys), rest.validated) == ([5, 6], [4, 6])


class SignalInSetup(Callback):
    """Sends a signal to this process while weights are loaded, as it were."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("a model's loading would take minutes more")


def test_before_the_batches_it_ends_at_once_and_says_how_to_go_on(
    tmp_path: Path, shards: str, messages: list[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        fit(tmp_path, shards, SignalInSetup())
    assert stopped.value.code == STOPPED
    assert messages == [
        "stopped by SIGTERM before the first batch. No step was begun, so nothing is saved; the same command starts "
        "once more (exit status 143)"
    ]

    fit(tmp_path, shards, accumulation=2)
    path = tmp_path / "checkpoints/last.ckpt"
    kept = path.read_bytes()
    messages.clear()
    with pytest.raises(SystemExit) as stopped:
        fit(tmp_path, shards, SignalInSetup(), accumulation=2, steps=3)
    assert stopped.value.code == STOPPED
    assert messages == [
        f"stopped by SIGTERM before the first batch. {path} is as it was; the same command with --ckpt_path last goes "
        "on from there (exit status 143)"
    ]
    assert path.read_bytes() == kept


@pytest.mark.parametrize("verb", ["test", "predict", "validate"])
def test_before_the_first_item_the_other_verbs_say_that_what_is_written_stays(verb: str, messages: list[str]) -> None:
    class SignalInStart(Callback):
        def on_test_start(self, *arguments: Any) -> None:
            signal.raise_signal(signal.SIGTERM)
            raise AssertionError("it has ended")

        on_predict_start = on_validation_start = on_test_start

    module = make_module()
    module.test_step = module.predict_step = module.validation_step = lambda batch, batch_idx: None  # type: ignore[method-assign]
    batches = [make_batch([0])]
    data = FakePairs(batches, batches)
    data.test_dataloader = data.val_dataloader  # type: ignore[method-assign]
    with pytest.raises(SystemExit) as stopped:
        getattr(make_trainer([SignalInStart(), StopSignals()]), verb)(module, data)
    assert stopped.value.code == STOPPED
    assert messages == [
        "stopped by SIGTERM before the first batch. What former starts have written stays; the same command goes on "
        "(exit status 143)"
    ]


def test_afterwards_the_former_handlers_are_back(tmp_path: Path, shards: str) -> None:
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    fit(tmp_path, shards, accumulation=2)
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


@pytest.mark.parametrize("verb", ["test", "predict", "validate"])
def test_other_verbs_stop_after_the_item_in_hand(verb: str) -> None:
    ended: list[int] = []

    class SignalInItem(Callback):
        def on_test_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, *_: Any) -> None:
            if batch_idx == 1:
                signal.raise_signal(signal.SIGTERM)

        on_predict_batch_start = on_validation_batch_start = on_test_batch_start

        def on_test_batch_end(
            self, trainer: Any, pl_module: Any, out: Any, batch: Any, batch_idx: int, *_: Any
        ) -> None:
            ended.append(batch_idx)

        on_predict_batch_end = on_validation_batch_end = on_test_batch_end

    module = make_module()
    module.test_step = module.predict_step = module.validation_step = lambda batch, batch_idx: None  # type: ignore[method-assign]
    batches = [make_batch([number]) for number in range(4)]
    data = FakePairs(batches, batches)
    data.test_dataloader = data.val_dataloader  # type: ignore[method-assign]
    trainer = make_trainer([SignalInItem(), StopSignals()])
    with pytest.raises(SystemExit) as stopped:
        getattr(trainer, verb)(module, data)
    assert (stopped.value.code, ended) == (STOPPED, [0, 1])


def _wait_in_worker(ready: Any) -> None:
    ignore_stop_signals(0)
    ready.set()
    time.sleep(1)


def test_a_loaders_worker_outlives_the_signal() -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    worker = context.Process(target=_wait_in_worker, args=(ready,))
    worker.start()
    ready.wait()
    for number in STOP_SIGNALS:
        os.kill(worker.pid or 0, number)
    worker.join()
    assert worker.exitcode == 0
