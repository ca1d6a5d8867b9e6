"""Rows in processes of their own: a failed or late one is a row, and the next one runs."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.gpu.row import ROWS, Result, Row
from benchmarks.gpu.runner import Runner, last_error

PASSES = (
    "import json, sys; open(sys.argv[1], 'w').write(json.dumps({'summary': 'fine', 'values': {'n': 1}, 'fault': ''}))"
)
FAULTY = PASSES.replace("'fault': ''", "'fault': 'too slow'")
FAILS = "print('on the way'); raise ValueError('no such card')"
#: Starts a process that outlives it, writes its number, and waits.
LATE = (
    "import subprocess, sys, time; child = subprocess.Popen(['sleep', '60']); "
    "open(sys.argv[1] + '.child', 'w').write(str(child.pid)); time.sleep(60)"
)


class Scripted(Runner):
    """Runner whose rows run a line of Python, with the outcome's file as its argument."""

    scripts: dict[str, str]

    def _command(self, row: Row, seconds: float) -> list[str]:
        return [sys.executable, "-c", self.scripts[row.name], str(self.output / "rows" / f"{row.name}.json")]


def run(output: Path, seconds: float = 60, jobs: int = 1, **scripts: str) -> tuple[list[Result], list[str]]:
    order: list[str] = []
    runner = Scripted(output, True, seconds, jobs, lambda result: order.append(result.name))
    runner.scripts = scripts
    rows = [
        Row(name, "-", 5.0, "", beside=name == "beside", needs="beside" if name == "needy" else "") for name in scripts
    ]
    return runner.run([replace(row, limit=1.0) if row.name == "late" else row for row in rows]), order


def test_a_failed_row_does_not_end_the_others(tmp_path: Path) -> None:
    results, order = run(tmp_path, first=FAILS, second=PASSES, third=FAULTY)
    assert [(result.name, result.state) for result in results] == [
        ("first", "failed"), ("second", "passed"), ("third", "failed"),
    ]  # fmt: skip
    assert results[0].fault == f"exit status 1: ValueError: no such card; see {tmp_path / 'logs/first.log'}"
    assert (results[1].summary, results[1].values, results[1].fault) == ("fine", {"n": 1}, "")
    assert results[2].fault == "too slow"
    assert order == ["first", "second", "third"]


@pytest.mark.slow
def test_a_late_row_is_ended_with_what_it_started(tmp_path: Path) -> None:
    start = time.monotonic()
    results, _ = run(tmp_path, late=LATE, second=PASSES)
    assert [result.state for result in results] == ["late", "passed"]
    assert results[0].fault.startswith("ended after 1 s")
    assert 1 <= results[0].seconds < 50
    assert time.monotonic() - start < 50
    child = int((tmp_path / "rows/late.json.child").read_text())
    for _ in range(100):
        if not alive(child):
            break
        time.sleep(0.1)
    assert not alive(child)


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_row_waits_for_what_it_needs(tmp_path: Path) -> None:
    wait = "import time; time.sleep(0.3); " + PASSES
    results, order = run(tmp_path, beside=wait, needy=PASSES)
    assert [result.state for result in results] == ["passed", "passed"]
    assert order == ["beside", "needy"]


def test_a_row_is_skipped_where_what_it_needs_has_failed(tmp_path: Path) -> None:
    results, _ = run(tmp_path, beside=FAILS, needy=PASSES, other=PASSES)
    assert [result.state for result in results] == ["failed", "skipped", "passed"]
    assert results[1].fault == "the row beside has not passed"
    assert not (tmp_path / "rows/needy.json").exists()


def test_no_row_begins_after_the_time_of_the_whole(tmp_path: Path) -> None:
    results, _ = run(tmp_path, seconds=0.0, first=PASSES)
    assert [(result.state, result.fault) for result in results] == [("skipped", "the time of the whole was over")]


def test_a_former_outcome_is_not_taken_for_this_one(tmp_path: Path) -> None:
    run(tmp_path, first=PASSES)
    results, _ = run(tmp_path, first="")
    assert [result.state for result in results] == ["failed"]


def test_the_limits_are_ten_minutes_together() -> None:
    assert sum(row.limit for row in ROWS if not row.beside) <= 600
    assert all(row.limit <= 600 for row in ROWS)
    assert [row.name for row in ROWS if row.beside] == ["weights", "estimates"]
    assert len({row.name for row in ROWS}) == len(ROWS)


def test_the_last_error_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("Traceback\n  File\ntorch.OutOfMemoryError: CUDA out of memory\nbye\n")
    assert last_error(log) == "torch.OutOfMemoryError: CUDA out of memory"
    log.write_text("Killed\n")
    assert last_error(log) == "Killed"
    log.write_text("")
    assert last_error(log) == "nothing was written"
