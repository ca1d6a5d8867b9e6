"""Stages as forks of a process that has imported what they need; on Linux.

A study has more than a hundred short stages, and each would import for several seconds. What a fork runs is the same
command: a module as ``__main__`` with its words, a log, a session of its own, the exit status of its interpreter::

    the recipe --- socket: words, log, pipe ---> this module as a process, which imports once
                                                    |  fork, for each stage
                                                 a watcher, which writes pid and status to the pipe
                                                    |  fork
                                                 the stage

Each ends with the one above it, as `bound` has it. Modules that start threads or CUDA when they are imported are not
for this, as neither comes through a fork.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from callbacks.cli.recipes.bound import end_with

#: What a stage's words are separated by, which no argument of a process can hold.
_BETWEEN = "\0"
_LONGEST_MESSAGE = 1 << 17


class Preloaded:
    """A process that has imported modules, and makes stages from itself.

    Args:
        modules: their names.
        folder: where stages run.
        env: their environment.
        log: the file for what it prints itself.
    """

    def __init__(self, modules: Sequence[str], folder: Path, env: Mapping[str, str], log: Path) -> None:
        # One message is one stage.
        self._channel, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        bound = [sys.executable, "-m", "callbacks.cli.recipes.bound", str(os.getpid())]
        command = [sys.executable, "-m", "callbacks.cli.recipes.preloaded", str(there.fileno()), *modules]
        with there, log.open("ab") as file:
            self._process = subprocess.Popen(
                [*bound, *command],
                cwd=folder,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                pass_fds=[there.fileno()],
                start_new_session=True,
            )

    def start(self, module: str, arguments: Sequence[str], output: IO[bytes]) -> Forked | None:
        """Run a module as a stage; None = this process has ended, as it does when an import fails.

        Args:
            module: which ``python -m`` would run.
            arguments: the words behind it.
            output: the file for what it prints.
        """
        read, write = os.pipe()
        message = _BETWEEN.join([module, *arguments]).encode()
        try:
            socket.send_fds(self._channel, [message], [output.fileno(), write])
        except OSError:
            os.close(read)
            return None
        finally:
            os.close(write)
        file = os.fdopen(read)
        pid = file.readline()
        if not pid:
            file.close()
            return None
        return Forked(int(pid), file)

    def close(self) -> None:
        """End it, and the stages that still run."""
        self._channel.close()
        self._process.wait()


class Forked:
    """A stage that was forked; as much of `subprocess.Popen` as is needed.

    Args:
        pid: of its process, which is that of its process group.
        status: where its exit status is written; a signal's number is negative.
    """

    def __init__(self, pid: int, status: IO[str]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._file, self._lock = status, threading.Lock()

    def wait(self) -> int:
        """Its exit status, when it has ended."""
        with self._lock:
            if self.returncode is None:
                with self._file:  # without a word the watcher was killed, and the stage with it
                    self.returncode = int(self._file.readline() or -signal.SIGKILL)
            return self.returncode

    def poll(self) -> int | None:
        """Its exit status as far as somebody has waited for it."""
        return self.returncode


def main() -> None:
    """Import the modules, and become every stage that is asked for; the end of the recipe ends this."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    for name in sys.argv[2:]:
        importlib.import_module(name)
    gc.freeze()  # a collection in a fork would touch, and so copy, all of it
    atexit.register(gc.unfreeze)  # or native modules report at the end what they find left over
    if words := _words_in_a_fork(channel):
        sys.argv = ["", *words[1:]]  # the first is the module's file, which `runpy` knows
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def _words_in_a_fork(channel: socket.socket) -> list[str]:
    """Fork for each message, and return its words in the process of the stage; [] = there will be no more."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # watchers need nobody to wait for them
    server = os.getpid()
    while True:
        message, files, _, _ = socket.recv_fds(channel, _LONGEST_MESSAGE, 2)
        if not message:
            return []
        if os.fork() == 0:
            channel.close()
            output, status = files
            _watch(server, status)
            os.close(status)
            os.dup2(output, sys.stdout.fileno())
            os.dup2(output, sys.stderr.fileno())
            os.close(output)
            return message.decode().split(_BETWEEN)
        for file in files:
            os.close(file)


def _watch(server: int, status: int) -> None:
    """Fork once more; returns in the process of the stage alone, and this one says how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    end_with(server)
    watcher = os.getpid()
    stage = os.fork()
    if stage == 0:
        os.setsid()
        end_with(watcher)
        return
    os.write(status, f"{stage}\n".encode())
    _, ended = os.waitpid(stage, 0)
    os.write(status, f"{os.waitstatus_to_exitcode(ended)}\n".encode())
    os._exit(0)


if __name__ == "__main__":
    main()
