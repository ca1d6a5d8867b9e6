"""The SLURM jobs of docs/slurm, with a shell that plays the scheduler: arrays, joins, and what is queued once more."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from callbacks.stop_signals import STOPPED
from datamodules.prepare.videos import prepare_videos
from datamodules.shards.index import Index
from tests.support.annotated_videos import numbered_video
from tests.support.crash_world import COMMANDS
from tests.support.judged_pairs import write_judged_pairs
from tests.support.paths import ROOT
from tests.support.two_ranks import own_store

JOB, PART, JOIN = (ROOT / f"docs/slurm/{name}.sh" for name in ("fit", "part", "join"))


def command(folder: Path, name: str, code: str) -> None:
    path = folder / name
    path.write_text(f"#!/usr/bin/env bash\n{code}\n")
    path.chmod(0o755)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A scheduler that notes what it is asked for."""
    command(tmp_path, "scontrol", 'echo "$*" >> requeued')
    command(tmp_path, "srun", 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"')
    slurm = {"SLURM_JOB_ID": "77", "SLURM_NNODES": "2", "SLURM_NTASKS_PER_NODE": "4"}
    return {**os.environ, **slurm, "PATH": f"{tmp_path}:{os.environ['PATH']}"}


@pytest.mark.parametrize(("status", "requeued"), [(0, ""), (1, ""), (STOPPED, "requeue 77\n")])
def test_only_a_stopped_run_is_put_into_the_queue_again(
    tmp_path: Path, environment: dict[str, str], status: int, requeued: str
) -> None:
    command(tmp_path, "vidpref", f'echo "$*" > arguments; exit {status}')
    done = subprocess.run(["bash", JOB, "--config", "a.yaml"], cwd=tmp_path, env=environment, check=False)
    assert done.returncode == status
    given = (tmp_path / "arguments").read_text()
    assert given == "fit --config a.yaml --trainer.devices 4 --trainer.num_nodes 2\n"
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


@pytest.mark.parametrize("job", [JOB, PART])
def test_a_job_asks_slurm_for_the_signal_that_a_run_knows(job: Path) -> None:
    asked = [line.removeprefix("#SBATCH ") for line in job.read_text().splitlines() if line.startswith("#SBATCH ")]
    assert {"--signal=USR1@120", "--requeue"} <= set(asked)


@pytest.mark.parametrize("job", [JOB, PART, JOIN])
def test_the_shell_reads_every_line(job: Path) -> None:
    assert subprocess.run(["bash", "-n", job], check=False).returncode == 0
    if checker := shutil.which("shellcheck"):
        done = subprocess.run([checker, job], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def task(folder: Path, environment: dict[str, str], *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """One task of an array of four."""
    array = {
        "SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "4",
        "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "4", "SLURM_NNODES": "1",
    }  # fmt: skip
    environment = {**environment, **array, **more}
    return subprocess.run(
        ["bash", PART, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_a_task_of_an_array_makes_its_part(tmp_path: Path, environment: dict[str, str]) -> None:
    command(tmp_path, "vidpref", 'printf "%s|" "$@" > arguments')

    def given(*words: str, **more: str) -> list[str]:
        assert task(tmp_path, environment, *words, **more).returncode == 0
        return (tmp_path / "arguments").read_text().split("|")[:-1]

    assert given("prepare", "videos", "my clips", "out") == ["prepare", "videos", "my clips", "out", "--part", "3/4"]
    assert given("prepare", "videos", SLURM_CPUS_PER_TASK="6")[2:] == ["--workers", "6", "--part", "3/4"]
    devices = ["--trainer.devices", "4", "--trainer.num_nodes", "1"]
    assert given("predict", "--config", "a.yaml") == ["predict", "--config", "a.yaml", *devices, "--part", "3/4"]
    some = {"SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "3", "SLURM_ARRAY_TASK_MAX": "7"}
    assert given("predict", PARTS="16", **some)[-1] == "3/16"
    (tmp_path / "arguments").unlink()
    refused = task(tmp_path, environment, "predict", **some)
    assert refused.returncode == 2
    assert "set PARTS to the number of all parts" in refused.stderr
    assert not (tmp_path / "arguments").exists()


@pytest.mark.parametrize(("end", "requeued"), [("exit 1", ""), ("exit 143", "77_3"), ("kill -USR1 $$", "77_3")])
def test_a_stopped_task_is_put_into_the_queue_again_by_itself(
    tmp_path: Path, environment: dict[str, str], end: str, requeued: str
) -> None:
    """`prepare` has no handler: the signal ends it, and its finished results are kept."""
    command(tmp_path, "srun", '"$@"; exit $?')  # as srun, it turns a signal into a status
    command(tmp_path, "vidpref", end)
    assert task(tmp_path, environment, "prepare", "videos", "a", "b").returncode != 0
    file = tmp_path / "requeued"
    assert (file.read_text() if file.exists() else "") == (f"requeue {requeued}\n" if requeued else "")


SBATCH = """
for word in "$@"; do case "$word" in
    --array=*) range=${word#--array=} ;;
    --dependency=afterok:77) [ ! -e failed ] || exit 1 ;;
    --*) ;;
    *) break ;;
esac; shift; done
export SLURM_JOB_ID=77 SLURM_NNODES=1 SLURM_NTASKS_PER_NODE=1
export SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0
first=${range%-*} last=${range#*-}
if [ -z "${range:-}" ]; then bash "$@" >> log 2>&1; exit; fi
for task in $(seq "$first" "$last"); do
    SLURM_ARRAY_JOB_ID=77 SLURM_ARRAY_TASK_ID=$task SLURM_ARRAY_TASK_COUNT=$((last - first + 1)) \\
        SLURM_ARRAY_TASK_MIN=$first SLURM_ARRAY_TASK_MAX=$last bash "$@" >> log 2>&1 || touch failed
done
echo 77
"""


def submitted(folder: Path, environment: dict[str, str], output: str, *words: str) -> str:
    """The two commands of docs/running.md, with a scheduler that runs each task at once; what the tasks said."""
    command(folder, "sbatch", SBATCH)
    command(folder, "vidpref", f'exec {sys.executable} -m vidpref "$@"')
    script = f"""
parts=$(sbatch --parsable --array=1-2 --cpus-per-task=1 {PART} {shlex.join(words)})
sbatch --dependency=afterok:"$parts" --kill-on-invalid-dep=yes {JOIN} {output}
"""
    environment = {**environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "SLURM_CPUS_PER_TASK": "1"}
    done = subprocess.run(["bash", "-ec", script], cwd=folder, env=environment, check=False)
    log = (folder / "log").read_text()
    assert done.returncode == 0, log
    return log


@pytest.mark.slow
def test_an_array_of_a_preparation_and_its_join_are_one_run(
    tmp_path: Path, environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "clips").mkdir()
    for number in range(3):
        (tmp_path / f"clips/v{number}.mp4").write_bytes(numbered_video(number, 8, (32, 48)))
        (tmp_path / f"clips/v{number}.txt").write_text(f"Square {number}.")
    shape = ["--height=32", "--width=48", "--num_frames=5", "--fps=8", "--filters=[]"]
    submitted(tmp_path, environment, "out/train", "prepare", "videos", "clips", "out/train", *shape)
    clips = [str(tmp_path / "clips")]
    whole = prepare_videos(clips, str(tmp_path / "whole/train"), height=32, width=48, num_frames=5, fps=8.0, filters=[])
    assert Index.read(tmp_path / "out/train.index.json").fingerprint == whole.fingerprint
    capsys.readouterr()


@pytest.mark.slow
def test_an_array_of_a_prediction_and_its_join_have_every_label_once(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    write_judged_pairs(tmp_path, 3)
    words = [*COMMANDS["predict labels"].arguments, "--trainer.logger=true"]
    log = submitted(tmp_path, environment, "out/labels", *words)
    assert "all 2 parts are finished; `vidpref prepare join out/labels` joins them" in log
    index = Index.read(tmp_path / "out/labels.index.json", "vidpref/labels")
    assert [entry.key for entry in index.entries] == ["p00", "p01", "p02"]
    assert not (tmp_path / "out/labels.parts").exists()
    assert sorted(path.name for path in (tmp_path / "out").glob("replies*")) == [
        "replies.part1of2.jsonl", "replies.part2of2.jsonl",
    ]  # fmt: skip
    assert (tmp_path / "out/part2of2/predict/version_0/config.yaml").is_file()


#: Starts a task on each of two nodes, with what SLURM tells a task.
SRUN = """
while [ "${1#--}" != "$1" ]; do shift; done
status=0
for node in 0 1; do
    SLURM_PROCID=$node SLURM_NODEID=$node SLURM_LOCALID=0 SLURM_NTASKS=2 SLURM_STEP_ID=0 "$@" > "task-$node" 2>&1 &
done
for task in $(jobs -p); do wait "$task" || status=$?; done
exit $status
"""


@pytest.mark.slow
def test_a_fit_on_two_nodes_is_one_run_of_two_ranks(tmp_path: Path, environment: dict[str, str]) -> None:
    COMMANDS["fit"].prepare(tmp_path)
    command(tmp_path, "srun", SRUN)
    command(tmp_path, "vidpref", f'exec {sys.executable} -m vidpref "$@"')
    slurm = {
        "SLURM_NTASKS_PER_NODE": "1", "SLURM_NODELIST": "127.0.0.1", "SLURM_JOB_NAME": "vidpref",
    }  # fmt: skip
    environment = {**environment, **slurm, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    own = [word for word in COMMANDS["fit"].arguments[1:] if not word.startswith("--trainer.devices")]
    words = [*own, "--data.batch_size=1", "--trainer.strategy=ddp"]
    with own_store() as store:
        done = subprocess.run(["bash", JOB, *words], cwd=tmp_path, env=environment | store, check=False)
    said = [(tmp_path / f"task-{node}").read_text() for node in (0, 1)]
    assert done.returncode == 0, said
    assert "MEMBER: 1/2" in said[0]
    assert "MEMBER: 2/2" in said[1]
    assert (tmp_path / "out/checkpoints/last.ckpt").is_file()
    assert not (tmp_path / "requeued").exists()
