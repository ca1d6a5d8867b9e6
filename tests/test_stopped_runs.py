"""SIGTERM to runs of the command: what is done is kept, the status is 143, and the same command goes on."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from callbacks.stop_signals import STOPPED
from tests.support.command_runs import fit, steps, write_uneven_shards
from tests.support.paths import ROOT
from tests.support.tiny_video_llava import save_tiny_video_llava

pytestmark = pytest.mark.slow
DDP = (f"{ROOT}/configs/strategy/ddp.yaml", "--trainer.devices=2", "--data.batch_size=1")
FSDP = (f"{ROOT}/configs/strategy/fsdp.yaml", *DDP[1:], "--trainer.strategy.param_dtype=float32")
ONE = ("--data.batch_size=2", "--data.num_workers=1")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint, shards, and a run of three steps of two micro-batches that was not stopped."""
    folder = tmp_path_factory.mktemp("world")
    save_tiny_video_llava(folder / "tiny")
    write_uneven_shards(folder / "train", 12)
    done = run(folder, "whole", *ONE)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def run(folder: Path, name: str, *flags: str) -> subprocess.CompletedProcess[str]:
    more = ("--trainer.accumulate_grad_batches=2", "--trainer.max_steps=3", f"--trainer.default_root_dir={name}")
    return fit(folder, *more, *flags, probe=f"{name}.jsonl")


@pytest.mark.parametrize(
    ("flags", "rank"),
    [(ONE, 0), (DDP, 0), (DDP, 1), (DDP, -1), (FSDP, 1)],
    ids=["one process", "rank 0", "rank 1", "all ranks", "rank 1 of a sharded model"],
)
def test_fit_stops_and_goes_on(world: Path, tmp_path: Path, flags: tuple[str, ...], rank: int) -> None:
    """The signal comes in the first micro-batch of the second step, to one rank or to all of them and their workers."""
    shutil.copytree(world, tmp_path, dirs_exist_ok=True)
    signal = ("--trainer.callbacks+=tests.support.run_probes.SignalRank", f"--trainer.callbacks.rank={rank}")
    started = time.monotonic()
    stopped = run(tmp_path, "run", *flags, *signal, "--trainer.callbacks.step=1")
    assert stopped.returncode == STOPPED, stopped.stdout + stopped.stderr
    assert time.monotonic() - started < 120
    assert re.search(
        r"stopped by .* after micro-batch 1 of 2 of optimizer step 2.*last.ckpt holds step 1", stopped.stderr
    )
    assert "Traceback" not in stopped.stderr
    assert not (tmp_path / "run/exports").exists()
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["last.ckpt"]

    if flags is DDP and rank >= 0:
        return  # as with all ranks
    again = run(tmp_path, "run", *flags)
    assert again.returncode == 0, again.stdout + again.stderr
    whole, rest = steps(tmp_path / "whole.jsonl"), steps(tmp_path / "run.jsonl")
    assert [line["step"] for line in rest] == [1, 2, 3]
    for one, other in zip(whole, rest, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert other["norm"] == pytest.approx(one["norm"], rel=1e-5)
    if flags is ONE:
        adapter = "exports/last/adapter_model.safetensors"
        assert (tmp_path / "run" / adapter).read_bytes() == (tmp_path / "whole" / adapter).read_bytes()
