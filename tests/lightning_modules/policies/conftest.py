"""Checkpoints and policies of all families, which the tests of families share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.family_cases import checkpoint, loaded


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `checkpoint` writes each family once; tests read it only."""
    return tmp_path_factory.mktemp("families")


@pytest.fixture(scope="session")
def policy_of(folder: Path) -> Callable[[str], Any]:
    """A loaded policy of a family, made once; tests leave it as it is."""
    policies: dict[str, Any] = {}

    def get(kind: str) -> Any:
        if kind not in policies:
            policies[kind] = loaded(checkpoint(kind, folder))
        return policies[kind]

    return get
