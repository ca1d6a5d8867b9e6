"""Numbers to match, made once by code that is not this project's; tests/golden/ holds them as JSON."""

from __future__ import annotations

import json
from typing import Any

from tests.support.paths import TESTS

FOLDER = TESTS / "golden"


def golden(name: str) -> Any:
    """The content of `NAME.json`."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
