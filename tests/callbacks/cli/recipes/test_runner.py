"""Stages as processes: their order, what a failure, a signal and a kill leave, and how it goes on."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from callbacks.cli.recipes import process
from callbacks.cli.recipes.process import StageProcess, environment, threads_each
from callbacks.cli.recipes.runner import StageError, run_stages
from callbacks.cli.recipes.stage import Stage
from datamodules.shards.output_lock import LockedError
from tests.support.other_writer import other_writer
from tests.support.paths import ROOT
from tests.support.stage_runs import is_running, result, until

slow = pytest.mark.slow


@pytest.fixture(autouse=True)
def _own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages run elsewhere, with this repository's code."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)


def stage(name: str, reads: Sequence[str] = (), seconds: float = 0.0, status: int = 0) -> Stage:
    command = ["python", "-m", "tests.support.recipe_stage", name, str(seconds), str(status)]
    return Stage(name, command, reads, [name])


def run(folder: Path, stages: Sequence[Stage], **options: Any) -> tuple[dict[str, float], str]:
    """Seconds, and what was printed."""
    said = io.StringIO()
    seconds = run_stages(stages, folder / "out", folder=folder, console=Console(file=said, width=200), **options)
    return seconds, said.getvalue()


@slow
def test_stages_run_in_their_order_and_once(tmp_path: Path) -> None:
    stages = [stage("c", ["a", "b"]), stage("a"), stage("b", ["a"])]
    seconds, said = run(tmp_path, stages)
    assert set(seconds) == {"a", "b", "c"}
    times = {name: result(tmp_path / name) for name in seconds}
    assert times["a"]["ended"] <= times["b"]["began"] <= times["b"]["ended"] <= times["c"]["began"]
    assert "1/3 a: " in said
    assert "3/3 c: " in said
    log = (tmp_path / "out" / "logs" / "a.log").read_text()
    assert log == "$ python -m tests.support.recipe_stage a 0.0 0\nstep 3: loss 0.5 of a\n"

    again, said = run(tmp_path, stages)
    assert "1/3 a: done before" in said
    assert again == seconds
    assert {name: result(tmp_path / name) for name in seconds} == times


@slow
def test_a_changed_argument_or_input_makes_stages_run_again_and_keeps_what_was(tmp_path: Path) -> None:
    (tmp_path / "videos").write_text("1")
    run(tmp_path, [stage("a", ["videos"]), stage("b", ["a"]), stage("c")])
    former = (tmp_path / "a").read_text()
    _, said = run(tmp_path, [stage("a", ["videos"], seconds=0.5), stage("b", ["a"]), stage("c")])
    assert "a: its command has changed (0.0 -> 0.5); run again" in said
    assert f"{tmp_path / 'a'} is kept as {tmp_path / 'a.former-1'}" in said
    assert (tmp_path / "a.former-1").read_text() == former
    assert f"b: {tmp_path / 'a'} has changed; run again" in said
    assert "c: done before" in said
    (tmp_path / "videos").write_text("2")
    _, said = run(tmp_path, [stage("a", ["videos"], seconds=0.5), stage("b", ["a"]), stage("c")])
    assert f"a: {tmp_path / 'videos'} has changed; run again" in said


@slow
def test_stages_run_side_by_side_where_what_they_read_is_there(tmp_path: Path) -> None:
    stages = [stage("a", seconds=1.5), stage("b", seconds=1.5), stage("c", ["a", "b"])]
    run(tmp_path, stages, jobs=2)
    a, b, c = (result(tmp_path / name) for name in "abc")
    assert max(a["began"], b["began"]) < min(a["ended"], b["ended"])
    assert c["began"] >= max(a["ended"], b["ended"])
    assert a["OMP_WAIT_POLICY"] == "passive"
    assert a["OMP_NUM_THREADS"] == "1" or int(a["OMP_NUM_THREADS"]) <= len(os.sched_getaffinity(0)) // 2


@slow
def test_a_failed_stage_says_what_to_repeat_and_lets_the_others_end(tmp_path: Path) -> None:
    stages = [stage("a", seconds=1.5), stage("b", status=3), stage("c", ["a"]), stage("d", ["b"])]
    with pytest.raises(StageError) as caught:
        run(tmp_path, stages, jobs=2)
    message = str(caught.value)
    log = tmp_path / "out" / "logs" / "b.log"
    assert f"stage 'b' failed with exit status 3; {log} ends with:" in message
    assert "b: error: no such luck" in message
    assert f"To repeat it alone:  cd {tmp_path} && python -m tests.support.recipe_stage b 0.0 3" in message
    assert "To go on:  " in message
    assert (tmp_path / "a").exists()
    assert not (tmp_path / "c.began").exists(), "none is started after a failure"
    assert not (tmp_path / "d.began").exists()

    _, said = run(tmp_path, [*stages[:1], stage("b"), *stages[2:]], jobs=2)
    assert "a: done before" in said
    assert (tmp_path / "d").exists()


@slow
def test_a_stage_without_its_output_has_failed(tmp_path: Path) -> None:
    lacking = Stage("a", stage("a").command, writes=["a", "other"])
    with pytest.raises(StageError, match=r"stage 'a' did not write .*other; "):
        run(tmp_path, [lacking])


@slow
def test_two_runs_of_one_output(tmp_path: Path) -> None:
    with other_writer(tmp_path / "out", is_folder=False), pytest.raises(LockedError, match="is being written by"):
        run(tmp_path, [stage("a")])
    assert not (tmp_path / "a").exists()


def start(folder: Path) -> subprocess.Popen[str]:
    """`vidpref run` with the stages a and b, of which b takes a minute."""
    recipe = folder / "recipe.yaml"
    command = "python -m tests.support.recipe_stage"
    recipe.write_text(
        f"output: out\nvalues: {{seconds: 60}}\nstages:\n  a: {{run: {command} a, writes: a}}\n"
        f"  b: {{run: '{command} b ${{seconds}}', reads: a, writes: b}}\n"
    )
    arguments = [sys.executable, "-m", "vidpref", "run", "recipe.yaml"]
    return subprocess.Popen(arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@slow
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 143)])
def test_a_signal_stops_the_stages_in_order_and_says_how_to_go_on(
    tmp_path: Path, signum: signal.Signals, status: int
) -> None:
    runner = start(tmp_path)
    until((tmp_path / "b.began").exists)
    runner.send_signal(signum)
    out, err = runner.communicate(timeout=60)
    assert runner.returncode == status
    assert f"{signum.name}: waiting for b to stop in order" in out
    assert err == f"stopped by {signum.name} in b. To go on:  vidpref run recipe.yaml\n"
    assert (tmp_path / "b.stopped").exists()
    record = result(tmp_path / "out" / "stages" / "b.json")
    assert not record["finished"]
    assert record["seconds"] > 0
    assert result(tmp_path / "out" / "stages" / "a.json")["finished"]


@slow
def test_a_second_signal_ends_the_stages_at_once(tmp_path: Path) -> None:
    runner = start(tmp_path)
    until((tmp_path / "b.began").exists)
    stage_pid = int((tmp_path / "b.began").read_text())
    os.kill(stage_pid, signal.SIGSTOP)  # it cannot take SIGTERM in order
    runner.send_signal(signal.SIGINT)
    time.sleep(1.0)
    assert runner.poll() is None
    runner.send_signal(signal.SIGINT)
    assert runner.wait(60) == 130
    assert not is_running(stage_pid)
    assert not (tmp_path / "b.stopped").exists()


@slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals a process when its parent ends")
def test_stages_end_with_a_runner_that_is_killed(tmp_path: Path) -> None:
    runner = start(tmp_path)
    until((tmp_path / "b.began").exists)
    runner.kill()
    runner.wait()
    stage_pid = int((tmp_path / "b.began").read_text())
    until(lambda: not is_running(stage_pid))
    assert (tmp_path / "b.stopped").exists(), "in order"
    assert not result(tmp_path / "out" / "stages" / "b.json")["finished"]


def test_threads_are_a_share_of_the_free_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process.os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    monkeypatch.setattr(process.os, "getloadavg", lambda: (4.2, 9.0, 9.0))
    assert [threads_each(jobs) for jobs in (1, 2, 3, 20)] == [8, 4, 2, 1]
    monkeypatch.setattr(process.os, "getloadavg", lambda: (30.0, 9.0, 9.0))
    assert threads_each(1) == 1
    monkeypatch.setattr(process.os, "sched_getaffinity", lambda _: set(range(200)))
    assert threads_each(1) == 16


def test_a_given_number_of_threads_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (environment(3)["OMP_NUM_THREADS"], environment(3)["OMP_WAIT_POLICY"]) == ("3", "passive")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert (environment(3)["OMP_NUM_THREADS"], environment(3)["OMP_WAIT_POLICY"]) == ("7", "active")


@slow
def test_progress_is_the_newest_line_of_this_attempt(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("step 9: of an earlier attempt\n")
    ended: list[str] = []
    running = StageProcess(stage("a", seconds=1), tmp_path, log, 1, ended.append)
    assert running.progress() == ""
    until((tmp_path / "a.began").exists)
    until(lambda: running.progress() == "step 3: loss 0.5 of a")
    until(lambda: ended == ["a"])
    assert running.status == 0
    assert "step 9" in log.read_text()
