"""Work on the rows of a source in several processes, whose results come in the order of the rows."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any, Protocol, Self

from datamodules.prepare.kept_results import KeptResults, Result

#: Seconds of work in this process before others are started by themselves: that takes them some seconds each.
PATIENCE_S = 20.0
#: Tasks in advance, for each process: so many results wait, encoded, for one that takes long.
_AHEAD = 4
#: The work of a process of the pool.
_WORK: list[Callable[[Any], Result]] = []


class Task(Protocol):
    """Work on one row, with all that it takes; it can be pickled."""

    @property
    def identity(self) -> str | None:
        """All that the result depends on, as a text by which it is kept; None = it is not kept."""


class Workers:
    """Processes that work on tasks; a context, at whose end they are gone.

    Args:
        work: makes the result of a task. It is sent to each process as it is now, before models are loaded.
        kept: where finished results are kept.
        count: processes; None = the free cores, started where the work takes longer than they take to start.

    Raises:
        ValueError: `count` is below 1.
    """

    def __init__(self, work: Callable[[Any], Result], kept: KeptResults, count: int | None = None) -> None:
        if count is not None and count < 1:
            raise ValueError(f"workers is {count}; give 1 or more")
        self.work, self.kept = work, kept
        self.continued = 0
        self._count, self._at_once = count or free_cores(), count is not None
        self._pickled = None if self._count == 1 else _pickled(work)
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            # What is being worked on is finished and kept.
            self._pool.shutdown(cancel_futures=True)
        if self.continued:
            print(f"{self.continued} results of an earlier run that was stopped were used")

    def results(self, tasks: Iterable[Task]) -> Iterator[Result]:
        """The result of each task, in order; tasks are taken from their source some time before.

        Raises:
            ChildProcessError: a process was killed.
            Exception: what the work raised.
        """
        tasks, began = iter(tasks), time.monotonic()
        while self._pickled is None or not (self._at_once or time.monotonic() - began > PATIENCE_S):
            task = next(tasks, None)
            if task is None:
                return
            yield self._known(task) or _worked(self.work, task, self.kept)
        yield from self._from_pool(tasks, self._pickled)

    def _from_pool(self, tasks: Iterator[Task], pickled: bytes) -> Iterator[Result]:
        # Spawned: a fork of a process that has threads, as torch's, can wait for ever.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(self._count, context, _begin, (pickled,))
        waiting: deque[Result | Future[Result]] = deque()
        try:
            for task in tasks:
                waiting.append(self._known(task) or self._pool.submit(_work, task, self.kept))
                if len(waiting) >= _AHEAD * self._count:
                    yield _taken(waiting.popleft())
            while waiting:
                yield _taken(waiting.popleft())
        except BrokenProcessPool as error:
            raise ChildProcessError(
                f"one of the {self._count} worker processes was killed, perhaps because the memory was full; the same "
                "command continues with what is finished, with fewer --workers if need be"
            ) from error

    def _known(self, task: Task) -> Result | None:
        result = None if task.identity is None else self.kept.load(task.identity)
        self.continued += result is not None
        return result


def free_cores() -> int:
    """Cores that this process may use and nobody uses now; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    busy = round(os.getloadavg()[0]) if hasattr(os, "getloadavg") else 0
    return max(1, cores - busy)


def _pickled(work: Callable[[Any], Result]) -> bytes | None:
    try:
        return pickle.dumps(work)
    except Exception as error:  # a class of a user's own may raise anything
        sys.stderr.write(f"all work is done in one process, as it cannot be sent to others ({error})\n")
        return None


def _taken(result: Result | Future[Result]) -> Result:
    return result.result() if isinstance(result, Future) else result


def _worked(work: Callable[[Any], Result], task: Task, kept: KeptResults) -> Result:
    with _one_thread():
        result = work(task)
    if task.identity is not None:
        kept.store(task.identity, result)
    return result


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for torch and OpenCV: how a sum is split among threads shows in its last digit."""
    import cv2
    import torch

    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])


def _begin(pickled: bytes) -> None:
    """Called once in each process of the pool."""
    # Ctrl-C reaches the whole group; the first process ends the others in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _WORK[:] = [pickle.loads(pickled)]  # noqa: S301 our own, from the process that started this one


def _end_with_parent() -> None:
    """Without it a process whose parent was killed would wait for its next task for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "called in a process of the pool"
    wait([parent.sentinel])
    os._exit(1)


def _work(task: Task, kept: KeptResults) -> Result:
    return _worked(_WORK[0], task, kept)
