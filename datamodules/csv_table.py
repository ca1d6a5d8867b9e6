"""CSV files that people write by hand or export from a spreadsheet."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from datamodules.user_files import user_file


def read_csv(path: Path, what: str) -> tuple[list[str], list[tuple[int, dict[str | None, Any]]]]:
    """Names of the columns, and each row with its line in the file; blanks around names and cells are left out.

    Args:
        path: a comma-separated file whose first line names the columns.
        what: what the file should be, for messages.

    Returns:
        The names, and (line, row): a row has None for cells that it lacks, and those behind the last column as a list
        under None.

    Raises:
        ValueError: no such file, no CSV in UTF-8, another separator, or a column that is named twice.
    """
    try:
        with user_file(path).open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            header = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            # The line is the reader's, since a quoted cell may span several.
            rows: list[tuple[int, dict[str | None, Any]]] = [
                (reader.line_num, {name: cell.strip() if isinstance(cell, str) else cell for name, cell in row.items()})
                for row in reader
            ]
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such file; give {what}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: is not a CSV file in UTF-8 ({error})") from error
    # Spreadsheets of countries with decimal commas export semicolons.
    if len(header) == 1 and (mark := next((mark for mark in ";\t|" if mark in header[0]), None)):
        raise ValueError(f"{path}: the first line is {header[0]!r}; is it separated by {mark!r}? use commas")
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise ValueError(f"{path}: the first line names {', '.join(map(repr, twice))} twice; give each column one name")
    return header, rows
