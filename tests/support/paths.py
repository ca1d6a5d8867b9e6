"""Where the tests' files lie."""

from __future__ import annotations

from pathlib import Path

#: The repository.
ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
#: Public files and files of former versions.
DATA = TESTS / "data"
