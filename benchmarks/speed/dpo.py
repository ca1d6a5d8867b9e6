"""x."""

from __future__ import annotations

from typing import Any

from benchmarks.speed.options import DpoOptions


def dpo(options: DpoOptions) -> dict[str, Any]:
    return {}
