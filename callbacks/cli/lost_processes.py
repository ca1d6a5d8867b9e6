"""What an error says of a process that is gone: a data loader's worker, or another rank."""

from __future__ import annotations

import logging
import os
import re
import signal
import time
from collections.abc import Iterator, Sequence
from subprocess import Popen
from types import FrameType
from typing import Any

_REMEDY = (
    "Memory is the usual cause: the kernel kills what takes too much (its log says so: `dmesg`). Give the run more of "
    "it, or less to hold: smaller data.batch_size, fewer data.num_workers. The same command goes on from what is saved"
)
_WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? (?P<pids>[\d, ]+)\) (?P<fate>[^.]*)")
_NO_SHARED_MEMORY = ", which lacks shared memory (/dev/shm)"
#: Seconds that a process may take to be seen as ended after its connections broke.
_REAPED_WITHIN_S = 3.0
#: The process that started this one, when this module was imported.
_PARENT = os.getppid()


class LostProcessError(RuntimeError):
    """A process of the run is gone; the message says which, why as far as is known, and how to go on."""


def lost_process(error: BaseException, children: Sequence[Popen[Any]] = ()) -> LostProcessError | None:
    """The error in words where its cause is that another process is gone, else None.

    Args:
        error: what ended this process's work.
        children: the processes of ranks 1, 2, ... where this one has started them.
    """
    chain = list(_chain(error))
    for cause in chain:
        if isinstance(cause, LostProcessError):
            return cause
    for cause in chain:
        message = _lost_worker(cause)
        if message:
            return LostProcessError(f"{message}. {_REMEDY}")
    if any(map(_is_broken_connection, chain)):
        return LostProcessError(_lost_rank(children))
    return None


def frames_of(error: BaseException) -> Iterator[FrameType]:
    """The frames that an error passed, the innermost first."""
    frames, trace = [], error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    yield from reversed(frames)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and those behind it."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _lost_worker(error: BaseException) -> str | None:
    """Which worker is gone and how it ended: by the loader's own processes, or else by what torch says of them."""
    if not isinstance(error, OSError | EOFError | RuntimeError):
        return None
    # A batch on its way from a worker that is gone fails as any connection does, and torch may only say that a worker
    # "exited unexpectedly"; the loader that raised knows its processes.
    for frame in frames_of(error):
        workers = getattr(frame.f_locals.get("self"), "_workers", ())
        for number, worker in enumerate(workers if isinstance(workers, list) else ()):
            worker.join(0.2)
            if worker.exitcode and worker.exitcode != -signal.SIGTERM:  # SIGTERM: stopped by the loader itself
                return f"the data loader's worker {number} (process {worker.pid}) {_fate(worker.exitcode)}"
    if isinstance(error, RuntimeError) and (match := _WORKER.search(str(error))) is not None:
        shared = _NO_SHARED_MEMORY if "Bus error" in match["fate"] else ""
        return f"the data loader's worker with process number {match['pids']} {match['fate'].strip()}{shared}"
    return None


def _is_broken_connection(error: BaseException) -> bool:
    """Whether ranks could not speak to one another."""
    from torch.distributed import DistError

    return isinstance(error, DistError) or (isinstance(error, RuntimeError) and "gloo/transport" in str(error))


def _lost_rank(children: Sequence[Popen[Any]]) -> str:
    """Which rank is gone. Without children of its own a process knows only whether its parent, rank 0, still lives."""
    until = time.monotonic() + _REAPED_WITHIN_S
    while True:
        for rank, child in enumerate(children, 1):
            if child.poll():
                return lost_rank(rank, child.pid, child.returncode)
        if os.getppid() != _PARENT:
            return f"rank 0 (process {_PARENT}) is gone. {_REMEDY}"
        if time.monotonic() > until:
            return f"the connection to another rank broke, or that rank is gone; its own last lines say more. {_REMEDY}"
        time.sleep(0.05)


def lost_rank(rank: int, pid: int, status: int) -> str:
    """That a rank is gone.

    Args:
        rank: within this machine.
        pid: its process number.
        status: its exit status; below 0 = the number of the signal that killed it.
    """
    advice = _REMEDY if status < 0 else "Its own message says why; where it has none, memory is the usual cause"
    return f"rank {rank} (process {pid}) {_fate(status)}. {advice}"


def _fate(status: int) -> str:
    if status > 0:
        return f"ended with status {status}"
    shared = _NO_SHARED_MEMORY if -status == signal.SIGBUS else ""
    return f"was killed by {signal.Signals(-status).name}{shared}"


class ObserverFilter(logging.Filter):
    """Says in our words what Lightning logs before it kills this process because a rank is gone."""

    _MESSAGE = re.compile(r"\[rank: (\d+)\] Child process with PID (\d+) terminated with code (-?\d+)")

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record; it is always shown."""
        if (match := self._MESSAGE.match(record.getMessage())) is not None:
            rank, pid, status = map(int, match.groups())
            record.msg, record.args = f"error: {lost_rank(rank, pid, status)}", ()
        return True
