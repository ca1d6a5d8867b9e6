"""The SLURM job of docs/requeue.sh, with a shell that plays the scheduler: what is stopped is queued once more."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from callbacks.stop_signals import STOPPED
from tests.support.paths import ROOT

JOB = ROOT / "docs/requeue.sh"


def command(folder: Path, name: str, code: str) -> None:
    path = folder / name
    path.write_text(f"#!/usr/bin/env bash\n{code}\n")
    path.chmod(0o755)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A scheduler that notes what it is asked for."""
    command(tmp_path, "scontrol", 'echo "$*" >> requeued')
    command(tmp_path, "srun", 'exec "$@"')
    return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "77", "SLURM_NNODES": "2"}


@pytest.mark.parametrize(("status", "requeued"), [(0, ""), (1, ""), (STOPPED, "requeue 77\n")])
def test_only_a_stopped_run_is_put_into_the_queue_again(
    tmp_path: Path, environment: dict[str, str], status: int, requeued: str
) -> None:
    command(tmp_path, "vidpref", f'echo "$*" > arguments; exit {status}')
    done = subprocess.run(["bash", JOB, "--config", "a.yaml"], cwd=tmp_path, env=environment, check=False)
    assert done.returncode == status
    given = (tmp_path / "arguments").read_text()
    assert given == "fit --config a.yaml --trainer.devices 8 --trainer.num_nodes 2\n"
    assert ((tmp_path / "requeued").read_text() if (tmp_path / "requeued").exists() else "") == requeued


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_the_signal_goes_to_the_run_and_the_shell_waits(
    tmp_path: Path, environment: dict[str, str], number: signal.Signals
) -> None:
    """A scheduler signals every process of a job at once."""
    command(
        tmp_path,
        "vidpref",
        "exec python3 -c 'import signal, sys, time\n"
        f"for number in (signal.SIGTERM, signal.SIGUSR1): signal.signal(number, lambda *_: sys.exit({STOPPED}))\n"
        'open("started", "w").close()\ntime.sleep(60)\'',
    )
    job = subprocess.Popen(["bash", JOB], cwd=tmp_path, env=environment, start_new_session=True)
    while not (tmp_path / "started").exists():
        time.sleep(0.05)
    os.killpg(job.pid, number)
    assert job.wait(timeout=60) == STOPPED
    assert (tmp_path / "requeued").read_text() == "requeue 77\n"


def test_the_job_asks_slurm_for_the_signal_that_a_run_knows() -> None:
    asked = [line.removeprefix("#SBATCH ") for line in JOB.read_text().splitlines() if line.startswith("#SBATCH ")]
    assert {"--signal=USR1@120", "--requeue"} <= set(asked)
