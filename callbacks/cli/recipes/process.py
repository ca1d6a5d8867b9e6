"""Process of one stage: its environment, its log, its end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from callbacks.cli.recipes.preloaded import Preloaded
from callbacks.cli.recipes.stage import PYTHON, Stage

#: A line of a running fit or predict: "step 120: loss 1.234 ... left 0:00:42".
PROGRESS_LINE = re.compile(rb"^(?:step \d+|predict): .*$", re.MULTILINE)
#: More do not make one process much faster, and a fit on eight GPUs is eight processes.
_MOST_THREADS = 16
#: So much of a log is looked through for its last line of progress.
_TAIL_BYTES = 4096


class StageProcess:
    """Process of a stage, which a person could have started by typing its command.

    Args:
        stage: the stage.
        folder: where it runs.
        log: the file for its output, which is appended to.
        threads: in which it computes, unless the environment has OMP_NUM_THREADS.
        ended: called with the stage's name when the process has ended, in a thread of its own.
        preloaded: makes the process; None, or one that has ended = it is started.
    """

    def __init__(
        self,
        stage: Stage,
        folder: Path,
        log: Path,
        threads: int,
        ended: Callable[[str], None],
        preloaded: Preloaded | None = None,
    ) -> None:
        self.stage, self.log = stage, log
        self.started = time.monotonic()
        words = stage.words[1:] if stage.words[0] == PYTHON else ["-m", "vidpref", *stage.words]
        # A file and no pipe: when this process is killed, the stage still has to write how it stopped.
        with log.open("ab") as file:
            self._begin = file.tell()
            file.write(f"$ {stage.line}\n".encode())
            file.flush()
            forked = preloaded.start(words[1], words[2:], file) if preloaded and words[0] == "-m" else None
            self._process = forked or _started(words, folder, threads, file)
        threading.Thread(target=self._wait, args=(ended,), daemon=True).start()

    @property
    def status(self) -> int:
        """The exit status, after its end; a signal's number is negative."""
        return self._process.wait()

    @property
    def seconds(self) -> float:
        """For how long it has run."""
        return time.monotonic() - self.started

    def progress(self) -> str:
        """The newest line of progress; "" = there is none."""
        with self.log.open("rb") as file:
            file.seek(max(self._begin, self.log.stat().st_size - _TAIL_BYTES))
            lines = PROGRESS_LINE.findall(file.read())
        return lines[-1].decode(errors="replace").strip() if lines else ""

    def last_lines(self, number: int) -> str:
        """The end of the log."""
        return "".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)[-number:])

    def stop(self, signum: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to end in order; with SIGKILL end it and all that it has started."""
        with suppress(ProcessLookupError):
            if signum == signal.SIGKILL:
                os.killpg(self._process.pid, signum)
            elif self._process.poll() is None:
                os.kill(self._process.pid, signum)

    def _wait(self, ended: Callable[[str], None]) -> None:
        self._process.wait()
        ended(self.stage.name)


def _started(words: Sequence[str], folder: Path, threads: int, output: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "callbacks.cli.recipes.bound", str(os.getpid()), sys.executable, *words],
        cwd=folder,
        env=environment(threads),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C reaches the recipe alone, which ends its stages in order
    )


def environment(threads: int) -> dict[str, str]:
    """The environment of a stage: this one's, with threads that sleep while they wait for each other."""
    defaults = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    # A wide terminal, so that a line of progress stays one line; unbuffered, so that it comes at once.
    return defaults | os.environ | {"COLUMNS": "200", "PYTHONUNBUFFERED": "1"}


def threads_each(jobs: int) -> int:
    """Threads for each of `jobs` stages, of the cores that nobody uses now; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    busy = round(os.getloadavg()[0]) if hasattr(os, "getloadavg") else 0
    return min(_MOST_THREADS, max(1, (cores - busy) // jobs))
