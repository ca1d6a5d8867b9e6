"""Records of what the code under test opens, held so that the garbage collector cannot close it instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest


def record_calls(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[Any]:
    """A list to which every later call of a function adds what it returned."""
    returned: list[Any] = []
    original: Callable[..., Any] = getattr(owner, name)

    def call_and_note(*args: Any, **settings: Any) -> Any:
        returned.append(original(*args, **settings))
        return returned[-1]

    monkeypatch.setattr(owner, name, call_and_note)
    return returned


def require_closed(opened: Sequence[Any], least: int = 1) -> None:
    """Fail unless at least so many were opened, and all of them are closed."""
    assert len(opened) >= least, "the code no longer opens it where the test looks"
    assert all(resource.closed for resource in opened)
