"""Waiting for what the stages of tests write, and reading it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for a condition; it fails after so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def is_running(pid: int) -> bool:
    """Whether a process has not ended."""
    try:
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def result(path: Path) -> dict[str, Any]:
    """What a stage wrote, or its record."""
    return json.loads(path.read_text())  # type: ignore[no-any-return]
