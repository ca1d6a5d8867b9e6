"""Another process that writes an output: it holds the lock until it is asked to end, or is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.paths import ROOT

_CODE = """
import sys, time
from datamodules.shards.output_lock import OutputLock
sys.argv = ["vidpref", "fit", "--config", "theirs.yaml"]
OutputLock({output!r}, {is_folder}).acquire()
{more}
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def other_writer(output: Path, is_folder: bool, more: str = "") -> Iterator[subprocess.Popen[str]]:
    code = _CODE.format(output=str(output), is_folder=is_folder, more=more)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
