"""The checkpoint to go on from is written by time and by steps, as one file."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from callbacks import recovery
from callbacks.recovery import Recovery, unread_checkpoints
from callbacks.reference.model import ReferenceModel
from tests.support.preference_fakes import FakePairs, make_batch, make_module, make_trainer


class Clock(Callback):
    """A micro-batch takes four minutes."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def on_train_batch_start(self, *arguments: Any) -> None:
        self.now += 240


class Saved(Callback):
    """The steps at which checkpoints were written, and their files."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        self.steps.append(checkpoint["global_step"])


def saved_steps(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> list[int]:
    """Of eight steps of two micro-batches, which end after 8, 16, 24 ... minutes."""
    clock, saved = Clock(), Saved()
    monkeypatch.setattr(recovery, "time", SimpleNamespace(monotonic=clock.monotonic))
    trainer = make_trainer(
        [ReferenceModel(), clock, saved, Recovery(**settings)],
        steps=8,
        enable_checkpointing=True,
        default_root_dir=str(folder),
        accumulate_grad_batches=2,
    )
    trainer.fit(make_module(), FakePairs([make_batch([number]) for number in range(4)]))
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["last.ckpt"], "one file for all saves"
    assert torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 8
    return saved.steps


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, [2, 4, 6, 8]),
        ({"minutes": 30}, [4, 8]),
        ({"minutes": None}, [8]),
        ({"minutes": None, "every_n_steps": 3}, [3, 6, 8]),
        ({"minutes": 15, "every_n_steps": 3}, [2, 3, 5, 6, 8]),
    ],
)
def test_when_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], steps: list[int]
) -> None:
    assert saved_steps(tmp_path, monkeypatch, **settings) == steps


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="minutes is 0; give more than 0, or null"):
        Recovery(minutes=0)
    with pytest.raises(ValueError, match="every_n_steps is 0; give 1 or more, or null"):
        Recovery(every_n_steps=0)


def test_which_checkpoints_a_start_leaves_aside(tmp_path: Path) -> None:
    names = ["fit/version_0/checkpoints/epoch=0.ckpt", "checkpoints/best.ckpt", "checkpoints/last.ckpt"]
    for age, name in enumerate(names):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (1000 + age, 1000 + age))
    paths = [tmp_path / name for name in names]
    assert set(unread_checkpoints(tmp_path, None)) == set(paths)
    assert unread_checkpoints(tmp_path, paths[2]) == []
    assert unread_checkpoints(tmp_path, paths[1]) == [paths[2]]
    assert unread_checkpoints(tmp_path / "absent", None) == []
