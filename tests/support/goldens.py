"""Numbers to match, made once by code that is not this project's; tests/golden/ holds them as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "golden"


def golden(name: str) -> Any:
    """The content of `NAME.json`."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
