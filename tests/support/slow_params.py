"""Parameters of which a few run in the quick suite and the others in the slow one."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def slow_but(quick: Collection[str], names: Iterable[str]) -> list[Any]:
    """All names, those that are not quick marked as slow.

    Args:
        quick: names that run in the quick suite.
        names: all of them.
    """
    names = list(names)
    assert set(quick) <= set(names)
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]
