"""One writer at a time for a run's folder or a set of shards, on whatever machine it runs."""

from __future__ import annotations

import errno
import functools
import inspect
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from filelock import FileLock, Timeout

ParamT = ParamSpec("ParamT")
ResultT = TypeVar("ResultT")
#: How long the children of a writer that is gone may still hold its lock.
_PATIENCE_S = 5.0
#: The locks of this process, by path: what takes one while it holds it has it already.
_HELD: dict[Path, OutputLock] = {}


class LockedError(OSError):
    """Another process writes the same output; the message says which one."""


class OutputLock:
    """Lock on an output, held by one process: a hidden file beside the shards, or in the folder.

    The file says who holds it. The system releases it when its process ends, however it ends; what a killed process
    left is taken over, with a line that says so. On file systems without locks the file itself is the lock, and one
    that another machine left has to be deleted by hand.

    Args:
        output: a folder, or the folder and common name of shards.
        is_folder: whether the file is in `output`, or beside it.
    """

    def __init__(self, output: str | Path, is_folder: bool = False) -> None:
        self.output = Path(output)
        path = self.output.absolute()
        self.path = path / ".lock" if is_folder else path.with_name(f".{path.name}.lock")
        self._lock: FileLock | None = None
        self._made: list[Path] = []

    def acquire(self) -> None:
        """Take it.

        Raises:
            LockedError: somebody else has it; names host, process, command and time.
        """
        # Held already where one function that takes it calls another; an address has no lock.
        if self.path in _HELD or "://" in str(self.output):
            return
        self._made = [folder for folder in self.path.parents if not folder.exists()]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), error.filename) from error
        # Not local to a thread, so that any thread of this process can release it.
        lock, owner = FileLock(self.path, thread_local=False), None
        try:
            lock.acquire(timeout=0)
        except Timeout:
            owner = _owner(_content(self.path))
            if owner is not None and _is_gone(owner):
                # A worker that it had just started holds the file too, until it has run for a moment.
                with suppress(Timeout):
                    lock.acquire(timeout=_PATIENCE_S)
        if not lock.is_locked:
            who = "another process" if owner is None else _described(owner)
            raise LockedError(
                f"{self.output} is being written by {who}. Wait for it or end it, or choose another output; if it is "
                f"certain that it is gone, delete {self.path}"
            )
        self._lock = lock
        _HELD[self.path] = self
        before = self.path.read_text(errors="replace")
        former = _owner(before)
        if former is not None:
            line = f"{self.output}: {_described(former)} is gone without having ended in order; taken over"
            sys.stderr.write(f"{line}\n")
        if former is not None or not before:  # anything else is the lock itself, of a file system without locks
            with suppress(OSError):  # a full disk: what comes next says so
                since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
                owner = {
                    "host": socket.gethostname(),
                    "pid": os.getpid(),
                    "command": " ".join(sys.argv),
                    "since": since,
                }
                self.path.write_text(json.dumps(owner))

    def release(self) -> None:
        """Give it back, and leave nothing behind; nothing happens where it is not held."""
        if self._lock is None:
            return
        self.path.unlink(missing_ok=True)  # while it is held: who waits for this very file notices, and makes another
        self._lock.release()
        self._lock = None
        del _HELD[self.path]
        with suppress(OSError):  # something was written into them
            for folder in self._made:
                folder.rmdir()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


def locks_output(parameter: str) -> Callable[[Callable[ParamT, ResultT]], Callable[ParamT, ResultT]]:
    """A decorator of a function that writes shards: it holds their lock while it runs.

    Args:
        parameter: the name of the parameter that says folder and common name of the shards.
    """

    def decorate(function: Callable[ParamT, ResultT]) -> Callable[ParamT, ResultT]:
        @functools.wraps(function)
        def locked(*args: ParamT.args, **kwargs: ParamT.kwargs) -> ResultT:
            with OutputLock(inspect.signature(function).bind(*args, **kwargs).arguments[parameter]):
                return function(*args, **kwargs)

        return locked

    return decorate


def _content(path: Path) -> str:
    """What the file says; its holder may be about to write it."""
    for _ in range(5):
        with suppress(OSError):
            if content := path.read_text(errors="replace"):
                return content
        time.sleep(0.1)
    return ""


def _owner(content: str) -> dict[str, Any] | None:
    try:
        owner = json.loads(content)
        return {"host": owner["host"], "pid": int(owner["pid"]), "command": owner["command"], "since": owner["since"]}
    except (ValueError, KeyError, TypeError):
        return None


def _is_gone(owner: dict[str, Any]) -> bool:
    """Whether it was a process of this machine and has ended; of another machine's this cannot be known."""
    if owner["host"] != socket.gethostname() or os.name != "posix":
        return False
    try:
        os.kill(owner["pid"], 0)  # signal 0 is not sent, only whether it could be
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _described(owner: dict[str, Any]) -> str:
    return f"process {owner['pid']} on {owner['host']} (`{owner['command']}`, since {owner['since']})"
