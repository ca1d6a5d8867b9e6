"""A labelling page in a process of its own, and the little that its tests ask of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.paths import ROOT

TOKEN = "token-of-the-tests"  # noqa: S105 guards nothing


class LabelServer:
    """``vidpref label`` in a process of its own.

    Args:
        folder: where it runs.
        flags: of the command.
        token: of the address; None = as the command draws it.
    """

    def __init__(self, folder: Path, *flags: str, token: str | None = TOKEN) -> None:
        self.log = folder / "label.log"
        command = [sys.executable, "-m", "vidpref", "label", *flags, "--open_browser", "false"]
        command += [] if token is None else ["--token", token]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        self.address = self._address()

    def _address(self) -> str:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if (match := re.search(r"http://\S+/", self.log.read_text())) is not None:
                return match[0]
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        raise AssertionError(f"no address came: {self.log.read_text()}")

    @property
    def port(self) -> str:
        return self.address.split(":")[2].split("/")[0]

    def kill(self) -> None:
        """As by ``kill -9``."""
        self.process.kill()
        self.process.wait(60)

    def interrupt(self) -> str:
        """As by Ctrl+C; what it printed."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)
        return self.log.read_text()


@contextmanager
def label_server(folder: Path, *flags: str, token: str | None = TOKEN) -> Iterator[LabelServer]:
    server = LabelServer(folder, *flags, token=token)
    try:
        yield server
    finally:
        server.kill()
