"""Names of the files in which a large index has its columns, ``NAME.index-HASH.arrow`` beside ``NAME.index.json``.

HASH begins the fingerprint, so that other content is another file, and the index, whose rename is the commit point,
never names one that is half written or was written over.
"""

from __future__ import annotations

import json
import re
from pathlib import Path


def column_file(index: Path, fingerprint: str) -> Path:
    """Where the columns of an index are.

    Args:
        index: ``NAME.index.json``.
        fingerprint: the index's.
    """
    return index.with_name(f"{index.name.removesuffix('.json')}-{fingerprint[:12]}.arrow")


def column_files(index: Path) -> list[Path]:
    """The column files of this index, of former ones of its name, and what kills left of some."""
    form = re.compile(rf"{re.escape(index.name.removesuffix('.json'))}-[0-9a-f]{{12}}\.arrow(\.tmp)?")
    paths = index.parent.iterdir() if index.parent.is_dir() else ()
    return sorted(path for path in paths if form.fullmatch(path.name))


def remove_stray_columns(index: Path, *headers: Path) -> None:
    """Remove the column files of an index's name that are no index's.

    Args:
        index: ``NAME.index.json``, there or not.
        headers: the files that may name a column file, there or not.
    """
    if files := column_files(index):
        named = {_named(header) for header in headers}
        for path in files:
            if path.name not in named:
                path.unlink()


def _named(header: Path) -> str | None:
    try:
        name = json.loads(header.read_bytes())["columns"]["name"]
    except (OSError, ValueError, KeyError, TypeError):  # none, or one that holds its samples itself
        return None
    return str(name)
