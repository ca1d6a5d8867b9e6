from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel

from callbacks.cli.checkpoint_io import AtomicCheckpointIO, CheckpointError
from callbacks.cli.run_record import checkpoint_differences
from tests.support.paths import ROOT
from tests.support.quiet_trainer import quiet_trainer


def test_round_trip_makes_folders_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"weights": torch.arange(3.0), "step": 7}, path)
    checkpoint = AtomicCheckpointIO().load_checkpoint(path, weights_only=True)
    assert checkpoint["step"] == 7
    assert torch.equal(checkpoint["weights"], torch.arange(3.0))
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_failed_write_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)
    with pytest.raises(Exception, match=r"pickle|local"):
        AtomicCheckpointIO().save_checkpoint({"step": 2, "unpicklable": lambda: None}, path)
    assert AtomicCheckpointIO().load_checkpoint(path)["step"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_leftovers_of_a_killed_write_are_swept(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt.tmp99999").write_bytes(b"half")
    (tmp_path / "other.ckpt.tmp99999").write_bytes(b"another file's")
    AtomicCheckpointIO().save_checkpoint({}, tmp_path / "last.ckpt")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last.ckpt", "other.ckpt.tmp99999"]


@pytest.mark.parametrize("name", ["last.ckpt", "l[ao]st.ckpt", "last*.ckpt"])
def test_files_whose_names_only_begin_alike_are_kept(name: str, tmp_path: Path) -> None:
    kept = [f"{name}.tmp-mine", f"{name}.tmp", f"{name}.tmp9.bak", f"x{name}.tmp9", "lost.ckpt.tmp9", "last1.ckpt.tmp9"]
    for file in [*kept, f"{name}.tmp9"]:
        (tmp_path / file).write_bytes(b"precious")
    AtomicCheckpointIO().save_checkpoint({}, tmp_path / name)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([*kept, name])


def test_storage_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="storage_options"):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "last.ckpt", storage_options={"x": 1})


class Recording(AtomicCheckpointIO):
    def __init__(self) -> None:
        self.paths: list[Path] = []

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        self.paths.append(Path(path))
        super().save_checkpoint(checkpoint, path, storage_options)


def test_trainer_saves_through_it(tmp_path: Path) -> None:
    writer = Recording()
    trainer = quiet_trainer(plugins=[writer], default_root_dir=tmp_path, max_steps=1, enable_checkpointing=True)
    trainer.fit(BoringModel())
    trainer.save_checkpoint(tmp_path / "here.ckpt")
    assert writer.paths[-1] == tmp_path / "here.ckpt"
    assert all(path.is_file() for path in writer.paths)


KILLED_WHILE_WRITING = """
import os, signal, sys, torch
from callbacks.cli.checkpoint_io import AtomicCheckpointIO
path = sys.argv[1]
AtomicCheckpointIO().save_checkpoint({"step": 1}, path)
def torn(checkpoint, file):
    file.write(b"x" * 100_000)
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
torch.save = torn
AtomicCheckpointIO().save_checkpoint({"step": 2}, path)
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
    assert AtomicCheckpointIO().load_checkpoint(path)["step"] == 1


@contextmanager
def full_disk(bytes_left: int) -> Iterator[None]:
    """Files can hold no more than so many bytes; the system's error is another number, its way the same."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_line_and_the_former_checkpoint_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, path)
    large = {"step": 2, "weights": torch.zeros(100_000)}
    with full_disk(10_000), pytest.raises(CheckpointError) as failed:
        AtomicCheckpointIO().save_checkpoint(large, path)
    assert str(failed.value) == (
        f"{path}: the checkpoint cannot be written (File too large); free some space or make the folder writable, or "
        "choose another trainer.default_root_dir. Former ones are whole (last.ckpt), the same command goes on"
    )
    assert AtomicCheckpointIO().load_checkpoint(path)["step"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    with full_disk(10_000), pytest.raises(CheckpointError, match=r"There is no former one$"):
        AtomicCheckpointIO().save_checkpoint(large, tmp_path / "new" / "last.ckpt")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "last.ckpt"
    with pytest.raises(CheckpointError, match=r"file/last\.ckpt: the checkpoint cannot be written \("):
        AtomicCheckpointIO().save_checkpoint({"step": 1}, path)


@pytest.mark.parametrize("kept", [0, 3, 0.5, -5])
def test_a_checkpoint_that_was_cut_short_is_one_line(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, tmp_path / "epoch=0-step=1.ckpt")
    AtomicCheckpointIO().save_checkpoint({"step": 2, "weights": torch.zeros(1000)}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept) if kept == 0.5 else int(kept)])
    message = (
        f"{path}: is no whole checkpoint, its {path.stat().st_size} bytes were cut short or altered, as by a full "
        "disk or a broken copy; give another one by --ckpt_path (beside it: epoch=0-step=1.ckpt), or delete it to "
        "start from the first step"
    )
    for read in (
        lambda: AtomicCheckpointIO().load_checkpoint(path, weights_only=True),
        lambda: checkpoint_differences(path, {}),
    ):
        with pytest.raises(ValueError, match="whole") as failed:
            read()
        assert str(failed.value) == message


def test_a_whole_checkpoint_of_other_content_is_not_called_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save({"step": Path("x")}, path)
    with pytest.raises(UnpicklingError, match="Weights only load failed"):
        AtomicCheckpointIO().load_checkpoint(path, weights_only=True)
