"""A bar on the terminal for what takes long."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TypeVar

ItemT = TypeVar("ItemT")


def with_progress(items: Sequence[ItemT], description: str) -> Iterable[ItemT]:
    """The items, with a bar that says how many of them are done; without one where nobody looks at a terminal."""
    from rich.console import Console
    from rich.progress import track

    return track(items, description, console=Console(stderr=True), disable=not sys.stderr.isatty())
