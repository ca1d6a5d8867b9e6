"""The column file of an index, and changes to it that the index does not give away."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from datamodules.shards.column_files import column_files


def columns_of(path: Path) -> Path:
    (file,) = column_files(path)
    return file


def set_columns(path: Path, change: Callable[[dict[str, list[Any]]], None], schema: pa.Schema | None = None) -> None:
    """Change the rows of a column file, and the index so that it names the new one rightly."""
    file = columns_of(path)
    table = pa.ipc.open_file(pa.py_buffer(file.read_bytes())).read_all()
    rows = table.to_pydict()
    change(rows)
    layout = schema or table.schema
    with pa.ipc.new_file(str(file), layout) as writer:
        writer.write_table(pa.table({name: rows[name] for name in layout.names}, schema=layout))
    named_rightly(path, file)


def named_rightly(path: Path, file: Path) -> None:
    header = json.loads(path.read_text())
    content = file.read_bytes()
    checksum = hashlib.blake2b(content, digest_size=16).hexdigest()
    header["columns"] = {"name": file.name, "bytes": len(content), "checksum": checksum}
    path.write_text(json.dumps(header))


def value(name: str, row: int, new: Any) -> Callable[[dict[str, list[Any]]], None]:
    return lambda rows: rows[name].__setitem__(row, new)
