"""Runs of the command that end at their k-th fsync, rename or removal, as by SIGKILL, without the cost of starting one.

A process that has imported everything forks a child for each run: `Forks` talks to it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from tests.support.paths import ROOT

#: The system's calls before which a run may end.
CALLS = ("fsync", "replace", "rename", "unlink", "remove", "rmdir")
KILLED = 137


class Forks:
    """The process that forks; used as a context."""

    def __enter__(self) -> Self:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.crash_runs"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *error: object) -> None:
        self._process.communicate()

    def run(self, folder: Path, arguments: list[str], ends_at: int | None = None) -> tuple[int, int, str]:
        """One run of the command in a folder.

        Args:
            folder: the current folder of the run.
            arguments: of the command.
            ends_at: the call before which it ends, from 1; None = it is left to end by itself.

        Returns:
            The exit status, the number of calls, and what it wrote to its error stream.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"folder": str(folder), "arguments": arguments, "ends_at": ends_at}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        status = int(self._process.stdout.readline())
        calls = (folder / "calls.txt").read_text()
        return status, len(calls), (folder / "stderr.txt").read_text()


def _serve() -> None:
    """Fork a child for each line of the input; answer with its exit status."""
    import diffusers  # noqa: F401
    import peft  # noqa: F401
    from diffusers import AutoencoderKLWan, WanTransformer3DModel  # noqa: F401
    from transformers import UMT5EncoderModel, VideoLlavaForConditionalGeneration  # noqa: F401

    from callbacks.cli.class_names import import_config_classes

    import_config_classes()
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(**request)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(folder: str, arguments: list[str], ends_at: int | None) -> None:
    """The child: never returns."""
    os.chdir(folder)
    for stream, name in ((0, os.devnull), (1, "stdout.txt"), (2, "stderr.txt")):
        os.dup2(os.open(name, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o644), stream)
    counter = os.open("calls.txt", os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644)
    count = 0

    def ending(call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any, **more: Any) -> Any:
            nonlocal count
            count += 1
            os.write(counter, b".")
            if count == ends_at:
                os._exit(KILLED)
            return call(*args, **more)

        return called

    for name in CALLS:
        setattr(os, name, ending(getattr(os, name)))
    import vidpref

    try:
        status = vidpref.main(arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    _serve()
