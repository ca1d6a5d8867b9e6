"""Running the rows: each in a process of its own that is ended when its time is over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from threading import Lock

from benchmarks.gpu.row import LOGS_FOLDER, ROWS_FOLDER, Outcome, Result, Row
from benchmarks.toy.commands import ROOT
from callbacks.cli.recipes.process import environment, threads_each

#: Lines of a failed row's log that are looked through for the error.
_LAST_LINES = 20


class Runner:
    """Runner of rows, in order; those beside the others from the start.

    Args:
        output: the folder of results and logs.
        dry_run: small sizes on a CPU.
        seconds: for all of them together; a row that would begin later is skipped.
        jobs: rows at a time, those beside them not counted.
        done: called with each result, from one thread at a time.
    """

    def __init__(self, output: Path, dry_run: bool, seconds: float, jobs: int, done: Callable[[Result], None]) -> None:
        self.output, self.dry_run, self.jobs, self.done = output, dry_run, jobs, done
        self.deadline = time.monotonic() + seconds
        self._beside: dict[str, Future[Result]] = {}
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._lock = Lock()
        self._stopped = False

    def run(self, rows: Sequence[Row]) -> list[Result]:
        """The results in the order of the rows."""
        for folder in (ROWS_FOLDER, LOGS_FOLDER):
            (self.output / folder).mkdir(parents=True, exist_ok=True)
        beside = [row for row in rows if row.beside]
        with ThreadPoolExecutor(max(1, len(beside))) as background, ThreadPoolExecutor(self.jobs) as pool:
            self._beside = {row.name: background.submit(self._result, row) for row in beside}
            futures = self._beside | {row.name: pool.submit(self._result, row) for row in rows if not row.beside}
            try:
                for future in as_completed(futures.values()):
                    future.result()
            finally:
                self._stop()
        return [futures[row.name].result() for row in rows]

    def _result(self, row: Row) -> Result:
        result = Result("", {}, "", row.name, limit=row.limit)
        if row.needs in self._beside and (needed := self._beside[row.needs].result()).state != "passed":
            result.state, result.fault = "skipped", f"the row {needed.name} has not passed"
        elif (left := self.deadline - time.monotonic()) <= 0 or self._stopped:
            result.state, result.fault = "skipped", "the time of the whole was over"
        else:
            result.limit = min(row.limit, left)
            self._measure(row, result)
        with self._lock:
            self.done(result)
        return result

    def _measure(self, row: Row, result: Result) -> None:
        file, log = self.output / ROWS_FOLDER / f"{row.name}.json", self.output / LOGS_FOLDER / f"{row.name}.log"
        file.unlink(missing_ok=True)
        start = time.monotonic()
        status = self._status(self._command(row, result.limit), log, result.limit)
        result.seconds = time.monotonic() - start
        if status is None:
            result.state, result.fault = "late", f"ended after {result.limit:.0f} s, see {log}"
            return
        if status == 0 and file.is_file():
            outcome = Outcome(**json.loads(file.read_text(encoding="utf-8")))
            result.summary, result.values, result.fault = outcome.summary, outcome.values, outcome.fault
        else:
            result.fault = f"exit status {status}: {last_error(log)}; see {log}"
        result.state = "failed" if result.fault else "passed"

    def _command(self, row: Row, seconds: float) -> list[str]:
        """Bound to this process: killed, it leaves none behind."""
        bound = [sys.executable, "-m", "callbacks.cli.recipes.bound", str(os.getpid())]
        command = [sys.executable, "-m", "benchmarks.gpu.one_row", row.name, str(self.output), str(seconds)]
        return [*bound, *command, *(["--dry-run"] * self.dry_run)]

    def _status(self, command: Sequence[str], log: Path, seconds: float) -> int | None:
        """The exit status; None = its time was over, and it was ended with all that it had started."""
        with log.open("wb") as file:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment(threads_each(self.jobs)),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes.add(process)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            # Also after a good end: workers and ranks must not outlive their row.
            _kill(process)
            self._processes.discard(process)

    def _stop(self) -> None:
        self._stopped = True
        for process in list(self._processes):
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_error(log: Path) -> str:
    """The last line of a log that names an error, or its last line."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines[-_LAST_LINES:] if "Error" in line.split(":")[0]]
    return [*lines[-1:], *errors][-1] if lines else "nothing was written"
