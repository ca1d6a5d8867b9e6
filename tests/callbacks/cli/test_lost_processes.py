"""A worker or a rank that is gone: one line that names it."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.distributed import DistBackendError
from torch.utils.data import DataLoader, Dataset

from callbacks.cli.lost_processes import LostProcessError, ObserverFilter, lost_process, lost_rank
from tests.support.command_runs import fit, write_uneven_shards
from tests.support.loader_errors import loader_error
from tests.support.paths import ROOT
from tests.support.tiny_video_llava import save_tiny_video_llava

GOES_ON = "Memory is the usual cause: .* The same command goes on from what is saved"


class KilledInside(Dataset[torch.Tensor]):
    """The second sample's worker gets a SIGKILL."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        if index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.zeros(3)


def test_a_loaders_worker_is_named() -> None:
    with pytest.raises(RuntimeError) as failed:
        list(DataLoader(KilledInside(), num_workers=1))
    lost = lost_process(failed.value)
    assert lost is not None
    assert (message := str(lost)).startswith("the data loader's worker ")
    assert "kill" in message
    assert "fewer data.num_workers. The same command goes on" in message


def test_how_a_worker_ended_is_said_where_torch_only_says_that_it_is_gone() -> None:
    """Which of torch's two messages a dead worker gets depends on who notices first."""

    class Loader:
        def __init__(self) -> None:
            self._workers = [torch.multiprocessing.get_context("spawn").Process(target=os.kill, args=(os.getpid(), 0))]
            self._workers[0].start()
            self._workers[0].kill()

        def next_batch(self) -> None:
            raise RuntimeError(f"DataLoader worker (pid(s) {self._workers[0].pid}) exited unexpectedly")

    with pytest.raises(RuntimeError) as failed:
        (loader := Loader()).next_batch()
    message = str(lost_process(failed.value))
    assert message.startswith(
        f"the data loader's worker 0 (process {loader._workers[0].pid}) was killed by SIGKILL. Memory"
    )


def test_an_error_within_a_worker_is_no_lost_process() -> None:
    class Failing(KilledInside):
        def __getitem__(self, index: int) -> torch.Tensor:
            raise OSError("no such shard")

    error = loader_error(Failing(), num_workers=1)
    assert isinstance(error, OSError)
    assert "no such shard" in str(error)
    assert lost_process(error) is None
    assert lost_process(RuntimeError("CUDA error: out of memory")) is None


def test_shared_memory_is_named_where_it_is_the_cause() -> None:
    error = RuntimeError("DataLoader worker (pid 12) is killed by signal: Bus error. It is possible that ...")
    assert "worker with process number 12 is killed by signal: Bus error, which lacks shared memory (/dev/shm)" in str(
        lost_process(error)
    )


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("os.kill(os.getpid(), 9)", f"rank 2 .process PID. was killed by SIGKILL. {GOES_ON}"),
        ("sys.exit(1)", "rank 2 .process PID. ended with status 1. Its own message says why"),
    ],
)
@pytest.mark.parametrize(
    "broken",
    [
        RuntimeError("[gloo/transport/tcp/pair.cc:545] Read error [127.0.0.1]:1: Connection reset by peer"),
        # As NCCL's backend raises it; here no NCCL runs.
        DistBackendError("NCCL error: remote process exited or there was a network error"),
    ],
    ids=["gloo", "nccl"],
)
def test_the_rank_that_is_gone_is_named(end: str, message: str, broken: Exception) -> None:
    alive = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    gone = subprocess.Popen([sys.executable, "-c", f"import os, sys; {end}"])
    try:
        lost = lost_process(broken, [alive, gone])
        with pytest.raises(LostProcessError, match=message.replace("PID", str(gone.pid))):
            raise lost or AssertionError
        assert lost_process(lost or AssertionError()) is lost
    finally:
        alive.communicate(b"\n")


def test_lightnings_own_line_before_it_kills_this_process_is_in_our_words() -> None:
    line = "[rank: 1] Child process with PID 77 terminated with code -9. Forcefully terminating all other processes"
    record = logging.LogRecord("x", logging.INFO, "", 0, line, (), None)
    assert ObserverFilter().filter(record)
    assert record.getMessage() == f"error: {lost_rank(1, 77, -9)}"
    assert record.getMessage().startswith("error: rank 1 (process 77) was killed by SIGKILL. Memory is the usual cause")
    other = logging.LogRecord("x", logging.INFO, "", 0, "Seed set to %d", (0,), None)
    assert ObserverFilter().filter(other)
    assert other.getMessage() == "Seed set to 0"


@pytest.mark.slow
def test_runs_whose_worker_or_rank_is_killed_end_in_one_line_and_go_on(tmp_path: Path) -> None:
    save_tiny_video_llava(tmp_path / "tiny")
    write_uneven_shards(tmp_path / "train", 12)
    ddp = (f"{ROOT}/configs/strategy/ddp.yaml", "--trainer.devices=2")
    cases = {
        "worker": (("--data.num_workers=1",), ("KillWorker", "step=2"), r"error: the data loader's worker .*kill"),
        "rank1": (ddp, ("KillRank", "step=2", "rank=1"), r"error: rank 1 \(process \d+\) was killed by SIGKILL"),
        "rank0": (ddp, ("KillRank", "step=2", "rank=0"), r"error \(process 1\): rank 0 \(process \d+\) is gone"),
    }
    for name, (flags, (killer, *arguments), message) in cases.items():
        base = (*flags, f"--trainer.default_root_dir={name}", "--trainer.max_steps=3", "--data.batch_size=1")
        kill = (
            f"--trainer.callbacks+=tests.support.run_probes.{killer}",
            *(f"--trainer.callbacks.{argument}" for argument in arguments),
        )
        done = fit(tmp_path, *base, *kill)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error")]
        with pytest.raises(LostProcessError, match=f"^{message}.*{GOES_ON}$"):
            raise LostProcessError(line)
    assert fit(tmp_path, "--trainer.default_root_dir=rank1", "--trainer.max_steps=3").returncode == 0
