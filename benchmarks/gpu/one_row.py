"""A row in a process of its own: `python -m benchmarks.gpu.one_row NAME OUTPUT SECONDS [--dry-run]`."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks.gpu.row import ROWS_FOLDER, Setting, row_of
from datamodules.shards.files import write_whole


def main(arguments: list[str]) -> None:
    """Measure a row and write its outcome; an error is left to the log and to the exit status."""
    name, output, seconds, *flags = arguments
    # Before transformers is imported, which reads them then.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    setting = Setting(Path(output), name, "--dry-run" in flags, time.monotonic() + float(seconds))
    outcome = row_of(name).measure(setting)
    write_whole(setting.output / ROWS_FOLDER / f"{name}.json", json.dumps(asdict(outcome)).encode())


if __name__ == "__main__":
    main(sys.argv[1:])
