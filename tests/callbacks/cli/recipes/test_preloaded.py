"""Stages as forks: each is what its command would be, but for the imports, and ends with what made it."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from callbacks.cli.recipes.preloaded import Preloaded
from callbacks.cli.recipes.process import StageProcess, environment
from callbacks.cli.recipes.runner import StageError, run_stages
from callbacks.cli.recipes.stage import Stage
from tests.support.paths import ROOT
from tests.support.stage_runs import is_running, result, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every stage imports for itself")

#: A small module that nothing else here imports; `recipe_stage` says whether it is there.
MODULE = "wave"


@pytest.fixture(autouse=True)
def _own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def stage(name: str, *words: str) -> Stage:
    return Stage(name, ["python", "-m", "tests.support.recipe_stage", name, *words], writes=[name])


def run(folder: Path, stages: list[Stage], *preload: str) -> str:
    """What was printed."""
    said = io.StringIO()
    run_stages(stages, folder / "out", folder=folder, console=Console(file=said, width=200), preload=preload)
    return said.getvalue()


def test_a_fork_is_its_command_without_the_imports(tmp_path: Path) -> None:
    folders = {preload: tmp_path / str(len(preload)) for preload in ((), (MODULE,))}
    for preload, folder in folders.items():
        folder.mkdir()
        run(folder, [stage("a"), stage("b")], *preload)
    started, forked = (result(folder / "a") for folder in folders.values())
    assert (started["imported"], forked["imported"]) == (False, True)
    same = ("main", "leads a session", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")
    assert {name: forked[name] for name in same} == {name: started[name] for name in same}
    assert forked["leads a session"]
    assert forked["pid"] != result(folders[(MODULE,)] / "b")["pid"]
    logs = [(folder / "out" / "logs" / "a.log").read_text() for folder in folders.values()]
    assert logs[0] == logs[1] == "$ python -m tests.support.recipe_stage a\nstep 3: loss 0.5 of a\n"
    assert (folders[(MODULE,)] / "a.exited").exists(), "the interpreter's end is that of a process"
    # What is done before is nothing to import for.
    (folders[(MODULE,)] / "out" / "logs" / "preloaded.log").unlink()
    assert "2/2 b: done before" in run(folders[(MODULE,)], [stage("a"), stage("b")], MODULE)
    assert not (folders[(MODULE,)] / "out" / "logs" / "preloaded.log").exists()


@pytest.mark.parametrize(("words", "status", "last"), [(["0", "3"], 3, "a: error: no such luck"), (["x"], 1, "'x'")])
def test_a_fork_fails_as_its_command_does(tmp_path: Path, words: list[str], status: int, last: str) -> None:
    with pytest.raises(StageError) as caught:
        run(tmp_path, [stage("a", *words)], MODULE)
    assert f"stage 'a' failed with exit status {status}; " in str(caught.value)
    assert last in (tmp_path / "out" / "logs" / "a.log").read_text().splitlines()[-1]


def test_without_what_is_to_be_imported_stages_run_as_ever(tmp_path: Path) -> None:
    run(tmp_path, [stage("a")], "no_such_module")
    assert not result(tmp_path / "a")["imported"]
    assert "No module named 'no_such_module'" in (tmp_path / "out" / "logs" / "preloaded.log").read_text()


@pytest.fixture
def preloaded(tmp_path: Path) -> Iterator[Preloaded]:
    server = Preloaded([MODULE], tmp_path, environment(1), tmp_path / "preloaded.log")
    yield server
    server.close()
    assert (tmp_path / "preloaded.log").read_text() == ""


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_fork_takes_signals(tmp_path: Path, preloaded: Preloaded, signum: signal.Signals, status: int) -> None:
    ended: list[str] = []
    running = StageProcess(stage("a", "60"), tmp_path, tmp_path / "a.log", 1, ended.append, preloaded)
    until((tmp_path / "a.began").exists)
    running.stop(signum)
    until(lambda: ended == ["a"])
    assert running.status == running.status == status
    assert (tmp_path / "a.stopped").exists() == (signum == signal.SIGTERM)
    running.stop(signum)  # nothing is there any more


def test_forks_end_with_a_recipe_that_is_killed(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path\n"
        "from callbacks.cli.recipes.runner import run_stages\n"
        "from callbacks.cli.recipes.stage import Stage\n"
        "command = 'python -m tests.support.recipe_stage a 60'.split()\n"
        f"run_stages([Stage('a', command)], Path('out'), preload=['{MODULE}'])\n"
    )
    recipe = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.DEVNULL)
    until(lambda: (tmp_path / "a.began").exists() and (tmp_path / "a.began").read_text() != "")
    recipe.kill()
    recipe.wait()
    until((tmp_path / "a.stopped").exists)  # in order
    pid = int((tmp_path / "a.began").read_text())
    until(lambda: not is_running(pid))
    assert os.listdir(tmp_path / "out" / "stages") == ["a.json"]
