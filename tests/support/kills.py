"""A process that is killed at one of the moments at which files change."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

#: What changes names or makes content last.
MOMENTS = ("fsync", "replace", "unlink", "rename")
_KILLED = 99


def killed(work: Callable[[], Any], moment: int) -> bool:
    """Run something in a process of its own that dies before the `moment`-th change; whether it came so far.

    Args:
        work: can be pickled.
        moment: from 1.

    Raises:
        AssertionError: it ended in an error of its own.
    """
    # Forked from a server that has no threads: a fork of this process, which may have some, can wait for ever.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.func.__module__ if isinstance(work, partial) else work.__module__])
    process = context.Process(target=_run_and_die, args=(work, moment))
    process.start()
    process.join(120)
    assert process.exitcode in (0, _KILLED), f"the process ended with {process.exitcode}"
    return process.exitcode == _KILLED


def _run_and_die(work: Callable[[], Any], moment: int) -> None:
    count = 0

    def dying(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count == moment:
                os._exit(_KILLED)  # no `finally`, no handler, as after SIGKILL
            return call(*arguments, **options)

        return counted

    for name in MOMENTS:
        setattr(os, name, dying(getattr(os, name)))
    work()
    count = -(10**9)  # what the process does at its end is none of the work's changes


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but for a killed writer's lock, which the next one takes over."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
