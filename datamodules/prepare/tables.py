"""Tables of any container: JSON lines, one JSON list, CSV and parquet, each row as a `SourceRow`."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datamodules.csv_table import read_csv
from datamodules.prepare.rows import SourceRow
from datamodules.user_files import user_file
from datamodules.video.containers import container_format
from datamodules.video.facts import Fault

#: First bytes of a parquet file.
_PARQUET = b"PAR1"
#: Names under which an object of a JSON file holds its rows.
_LISTS = ("results", "data", "rows")


def read_table(path: Path) -> list[SourceRow]:
    """The rows of a table; what is wrong with a row as such is a fault of it.

    Parquet is known by its first bytes, CSV by its suffix; any other file is JSON: one list, one object a line, or one
    object (that holds a list under results, data or rows, or is the only row itself). A row's number is its line in
    the file, or its place from 1 on. Bytes become base64: of a video all of them, of other content only their number.

    Raises:
        ValueError: no such file, a file that is none of these, or no row.
    """
    try:
        with user_file(path).open("rb") as file:
            head = file.read(len(_PARQUET))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); give the file with the rows") from error
    if head == _PARQUET:
        rows = list(_parquet_rows(path))
    elif path.suffix.lower() == ".csv":
        rows = [_csv_row(line, cells) for line, cells in read_csv(path, "the table")[1]]
    else:
        rows = _json_rows(path)
    if not rows:
        raise ValueError(f"{path}: holds no rows")
    return rows


def _json_rows(path: Path) -> list[SourceRow]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: is not UTF-8 text ({error}); give JSON lines, a JSON list, a .csv or a parquet file"
        ) from error
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{path}: its lists lie too deep within each other") from error
    except ValueError as error:
        if text.lstrip().startswith("["):  # a list that breaks off: its lines say nothing by themselves
            raise ValueError(f"{path}: is not a JSON list ({error})") from error
        return [_json_line(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if isinstance(content, dict):
        content = next((content[name] for name in _LISTS if isinstance(content.get(name), list)), [content])
    if not isinstance(content, list):
        raise ValueError(f"{path}: is neither a list of rows nor one JSON object a line")
    return [_object_row(number, "", row) for number, row in enumerate(content, 1)]


def _json_line(number: int, line: str) -> SourceRow:
    try:
        return _object_row(number, line, json.loads(line))
    except (ValueError, RecursionError) as error:
        return SourceRow(number, line, {}, [Fault("line", f"is not JSON ({error})")])


def _object_row(number: int, line: str, row: Any) -> SourceRow:
    if not isinstance(row, dict) or not row:
        return SourceRow(number, line or json.dumps(row), {}, [Fault("line", "is not a JSON object with fields")])
    return SourceRow(number, line, row)


def _csv_row(number: int, cells: dict[str | None, Any]) -> SourceRow:
    surplus = cells.pop(None, None)
    # An empty cell is a field that the row does not have, and a list or an object is written as JSON.
    row = SourceRow(number, "", {name: _cell(cell) for name, cell in cells.items() if name is not None and cell})
    if surplus:
        row.refuse("line", f"has {len(surplus)} more cells than the header; quote texts that hold a comma")
    return row


def _cell(text: str) -> Any:
    # A text may begin with a bracket, too: only what parses is a list or an object.
    if not text.startswith(("[", "{")):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _parquet_rows(path: Path) -> Iterator[SourceRow]:
    from pyarrow import ArrowInvalid, parquet  # which takes a while to import

    try:
        number = 0
        # In batches, so that the pictures of a large file need not be in memory together.
        for batch in parquet.ParquetFile(path).iter_batches(256):
            for row in batch.to_pylist():
                number += 1
                yield SourceRow(number, "", _plain(row))
    except (ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: is a damaged parquet file ({error})") from error


def _plain(value: Any) -> Any:
    """A value of parquet as plain JSON types; a null inside an object is a field that it does not have."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        return _encoded(value)
    # Dates and decimals, for which JSON has no type, become text.
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def _encoded(content: bytes) -> str:
    try:
        kind = container_format(content)
    except ValueError:
        return f"<{len(content)} bytes>"
    mime = "video/mp4" if kind == "mov" else f"video/{kind}"
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"
