"""Runs of the command on a disk that is full, in a folder that is read-only, with a checkpoint that was cut short."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.callbacks.cli.test_checkpoint_io import full_disk
from tests.support.command_runs import fit, write_uneven_shards
from tests.support.paths import ROOT
from tests.support.tiny_video_llava import save_tiny_video_llava

pytestmark = pytest.mark.slow
CHECKPOINT = ROOT / "datamodules/toy_world/checkpoints/video_llava"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, shards, and a run that has made a step."""
    folder = tmp_path_factory.mktemp("world")
    save_tiny_video_llava(folder / "tiny")
    write_uneven_shards(folder / "train", 4)
    assert run(folder, 1).returncode == 0
    return folder


def run(folder: Path, steps: int, *flags: str) -> subprocess.CompletedProcess[str]:
    flags = ("--trainer.logger=false", f"--trainer.max_steps={steps}", *flags)
    return fit(folder, "--trainer.default_root_dir=run", "--data.batch_size=2", *flags)


def the_error(done: subprocess.CompletedProcess[str]) -> str:
    """The one line in which a failed command says why."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error")]
    return line


def test_a_full_disk_keeps_the_former_checkpoint_and_the_same_command_goes_on(world: Path) -> None:
    last = world / "run/checkpoints/last.ckpt"
    before = last.read_bytes()
    assert len(before) > 40_000
    with full_disk(40_000):
        error = the_error(run(world, 2))
    assert error.endswith(
        "last.ckpt: the checkpoint cannot be written (File too large); free some space or make the folder writable, or "
        "choose another trainer.default_root_dir. Former ones are whole (last.ckpt), the same command goes on"
    )
    assert last.read_bytes() == before
    assert [path.name for path in last.parent.iterdir()] == ["last.ckpt"]

    last.write_bytes(before[:-5])
    error = the_error(run(world, 2))
    assert "last.ckpt: is no whole checkpoint, its" in error
    assert "or delete it to start from the first step" in error
    assert last.read_bytes() == before[:-5]

    last.write_bytes(before)
    assert run(world, 2).returncode == 0
    assert torch.load(last, weights_only=True)["global_step"] == 2


def read_only(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """A command that sees a read-only file system at `folder`/out, which nobody else does."""
    (folder / "out").mkdir(exist_ok=True)
    mount = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o ro none out && exec "$@"', "sh"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run([*mount, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "setting"),
    [
        (["fit", "--config", str(ROOT / "configs/toy/vista.yaml"), "--model.policy.path", str(CHECKPOINT),
          "--data.train", "train.index.json", "--data.val", "null", "--trainer.default_root_dir", "out/run"],
         "trainer.default_root_dir"),
        (["prepare", "toy", "out/set", "--num-videos", "2"], "the argument 'out/set'"),
    ],
)  # fmt: skip
def test_a_read_only_folder_is_one_line_with_the_setting(world: Path, arguments: list[str], setting: str) -> None:
    if shutil.which("unshare") is None or read_only(world, "true").returncode != 0:
        pytest.skip("this system does not let a process mount a read-only file system of its own")
    error = the_error(read_only(world, sys.executable, "-m", "vidpref", *arguments))
    assert error.endswith(f"({setting}): it is on a read-only file system; choose a folder that can be written")
    assert "/out" in error or "out/" in error
