"""What ran is written down, and a checkpoint's configuration is compared with the current one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger, Logger

from callbacks.cli.run_record import CONFIG_KEY, RunRecord, checkpoint_differences
from tests.support.quiet_trainer import quiet_trainer


def record(beta: float = 0.1) -> RunRecord:
    parser = ArgumentParser()
    parser.add_argument("--model.beta", type=float)
    parser.add_argument("--trainer.max_steps", type=int)
    return RunRecord(parser, Namespace({"model.beta": beta, "trainer.max_steps": 3}))


class Listening(Logger):
    """A logger that remembers its hyper-parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: dict[str, Any] = {}

    @property
    def name(self) -> str:
        return "listening"

    @property
    def version(self) -> int:
        return 0

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Metrics are not what this one listens to."""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.heard |= params


def test_folder_and_loggers_get_config_and_commit(tmp_path: Path) -> None:
    listening = Listening()
    loggers = [CSVLogger(tmp_path, name="fit"), listening]
    trainer = quiet_trainer(callbacks=[record()], default_root_dir=tmp_path, max_steps=1, logger=loggers)
    trainer.fit(BoringModel())
    assert "beta: 0.1" in (tmp_path / "fit/version_0/config.yaml").read_text()
    assert listening.heard["config"]["model"]["beta"] == 0.1
    assert "git_commit" in listening.heard
    assert not (tmp_path / "fit/version_0/hparams.yaml").exists()


def checkpoint_of(folder: Path, record: RunRecord) -> Path:
    checkpoint: dict[str, Any] = {"state_dict": {"x": torch.zeros(2)}}
    nobody: Any = SimpleNamespace()
    record.on_save_checkpoint(nobody, nobody, checkpoint)
    torch.save(checkpoint, folder / "a.ckpt")
    return folder / "a.ckpt"


def test_checkpoint_holds_plain_types_without_the_trainer(tmp_path: Path) -> None:
    stored = torch.load(checkpoint_of(tmp_path, record()), weights_only=True)
    assert stored[CONFIG_KEY] == {"model": {"beta": 0.1}}


def test_differences_name_the_key_as_on_the_command_line(tmp_path: Path) -> None:
    stored = {"model": {"class_path": "M", "init_args": {"beta": 0.1, "list": [1], "gone": 3, "none": {}}}}
    torch.save({CONFIG_KEY: stored}, tmp_path / "a.ckpt")
    now = {"model": {"class_path": "M", "init_args": {"beta": 0.2, "list": [1], "new": None, "none": {}}}, "trainer": 3}
    assert checkpoint_differences(tmp_path / "a.ckpt", now) == [
        "model.beta: 0.1 in the checkpoint, 0.2 now",
        "model.gone: 3 in the checkpoint, (absent) now",
        "model.new: (absent) in the checkpoint, None now",
    ]
    assert checkpoint_differences(tmp_path / "a.ckpt", stored) == []


def test_a_checkpoint_without_a_record_has_no_differences(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "a.ckpt")
    assert checkpoint_differences(tmp_path / "a.ckpt", {"model": {"beta": 1}}) == []
