from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from callbacks.cli.checkpoint_io import ReplaceIO
from tests.support.paths import ROOT


def test_round_trip_makes_folders_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "last.ckpt"
    ReplaceIO().save_checkpoint({"weights": torch.arange(3.0), "step": 7}, path)
    found = ReplaceIO().load_checkpoint(path, weights_only=True)
    assert found["step"] == 7
    assert torch.equal(found["weights"], torch.arange(3.0))
    assert [one.name for one in path.parent.iterdir()] == ["last.ckpt"]


def test_failed_write_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    ReplaceIO().save_checkpoint({"step": 1}, path)
    with pytest.raises(Exception, match=r"pickle|local"):
        ReplaceIO().save_checkpoint({"step": 2, "unpicklable": lambda: None}, path)
    assert ReplaceIO().load_checkpoint(path)["step"] == 1
    assert [one.name for one in tmp_path.iterdir()] == ["last.ckpt"]


def test_leftovers_of_a_killed_write_are_swept(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt.tmp99999").write_bytes(b"half")
    (tmp_path / "other.ckpt.tmp99999").write_bytes(b"another file's")
    ReplaceIO().save_checkpoint({}, tmp_path / "last.ckpt")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["last.ckpt", "other.ckpt.tmp99999"]


def test_storage_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="storage_options"):
        ReplaceIO().save_checkpoint({}, tmp_path / "last.ckpt", storage_options={"x": 1})


class Recording(ReplaceIO):
    def __init__(self) -> None:
        self.paths: list[Path] = []

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        self.paths.append(Path(path))
        super().save_checkpoint(checkpoint, path, storage_options)


def test_trainer_saves_through_it(tmp_path: Path) -> None:
    writer = Recording()
    trainer = Trainer(
        plugins=[writer],
        default_root_dir=tmp_path,
        max_steps=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(BoringModel())
    trainer.save_checkpoint(tmp_path / "here.ckpt")
    assert writer.paths[-1] == tmp_path / "here.ckpt"
    assert all(path.is_file() for path in writer.paths)


KILLED_WHILE_WRITING = """
import os, signal, sys, torch
from callbacks.cli.checkpoint_io import ReplaceIO
path = sys.argv[1]
ReplaceIO().save_checkpoint({"step": 1}, path)
def torn(checkpoint, file):
    file.write(b"x" * 100_000)
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
torch.save = torn
ReplaceIO().save_checkpoint({"step": 2}, path)
"""


@pytest.mark.slow
def test_killed_in_the_middle_of_a_write(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    root = ROOT
    done = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_WRITING, str(path)], cwd=root, env=dict(os.environ), check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2  # the whole old file, and the torn temporary one
    assert ReplaceIO().load_checkpoint(path)["step"] == 1
