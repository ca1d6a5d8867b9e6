"""Captions of videos: a text file beside each, or one CSV or JSONL for all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.csv_table import read_csv
from datamodules.prepare.rows import SourceRow, read_rows
from datamodules.video.containers import require_regular

#: What is taken for a video in a folder; each is decoded and encoded again, so the container does not matter.
VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"})
#: Tables that are found without being named, in a folder of videos.
TABLES = ("captions.csv", "captions.jsonl", "metadata.csv", "metadata.jsonl")
#: Names that a table may give to its columns.
VIDEO_COLUMNS = ("video", "file_name", "path", "file")
CAPTION_COLUMNS = ("caption", "text", "prompt")
#: What a line of ``OUTPUT.skipped.jsonl`` holds, see `SourceRow.record`.
_SKIPPED = {"row", "faults", "content"}


@dataclass(frozen=True, slots=True)
class CaptionedVideo:
    """Video file with its caption.

    Attributes:
        row: where the caption comes from, with the faults found so far.
        path: the file; it need not exist (then that is one of the faults).
        video_id: its path within its folder.
        caption: one line of text; empty when there is none.
    """

    row: SourceRow
    path: Path
    video_id: str
    caption: str


def read_captions(
    videos: Sequence[str | Path],
    captions: str | Path | None = None,
    video_column: str | None = None,
    caption_column: str | None = None,
) -> list[CaptionedVideo]:
    """Every video with its caption; one without the other is a fault of its row, not an error.

    Args:
        videos: folders, searched with all that is in them, and single files.
        captions: a .csv or .jsonl for all videos; None = the one of `TABLES` in the folders, or else a
            .txt beside each video.
        video_column: the table's column of paths, relative to a folder of `videos` or to the table's own, or absolute;
            None = the first of `VIDEO_COLUMNS` that it has.
        caption_column: likewise, of captions.

    Raises:
        ValueError: no video, an unreadable table or one without these columns, or several tables to choose from.
    """
    roots = [Path(root) for root in videos]
    files = _video_files(roots)
    if captions is not None:
        table: Path | None = Path(captions)
    else:
        folders = [root for root in roots if root.is_dir()]
        tables = [path for folder in folders for path in (folder / name for name in TABLES) if path.is_file()]
        if len(tables) > 1:
            raise ValueError(f"captions could come from {', '.join(map(str, tables))}; name the one that is meant")
        table = tables[0] if tables else None
    captioned = _beside(files) if table is None else _from_table(table, files, roots, video_column, caption_column)
    # A video in two folders has one video_id and so one key; a table may also name one twice.
    first: dict[str, SourceRow] = {}
    for video in captioned:
        if video.path in files and first.setdefault(video.video_id, video.row) is not video.row:
            video.row.refuse("video", f"repeats {first[video.video_id]}: the same {video.video_id}")
    return captioned


def _video_files(roots: Sequence[Path]) -> dict[Path, str]:
    """Absolute path -> video_id, in order."""
    files: dict[Path, str] = {}
    for root in roots:
        if root.is_dir():
            inside = sorted(path for path in root.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
            files |= {_absolute(path): path.relative_to(root).as_posix() for path in inside}
        elif root.exists():
            files[_absolute(root)] = root.name
        else:
            raise ValueError(f"{root}: no such file or folder; give folders of videos, or the videos themselves")
    if not files:
        raise ValueError(f"{', '.join(map(str, roots))}: no video in it ({', '.join(sorted(VIDEO_SUFFIXES))})")
    return files


def _absolute(path: Path) -> Path:
    # Not `resolve`: a link into a store of videos keeps the name that the table knows.
    return Path(os.path.abspath(path))


def _beside(files: dict[Path, str]) -> list[CaptionedVideo]:
    """Captions from ``clip.txt`` beside ``clip.mp4``."""
    captioned = []
    for path, video_id in files.items():
        row = SourceRow(0, "", {"video": video_id}, name=video_id)
        text = path.with_suffix(".txt")
        try:
            require_regular(text)
            row.data["caption"] = text.read_text(encoding="utf-8-sig")
        except FileNotFoundError:
            row.refuse("caption", f"there is no {text.name} beside it, and no table of captions")
        except (ValueError, OSError) as error:  # UnicodeDecodeError is a ValueError
            row.refuse("caption", f"{text.name} cannot be read as UTF-8 text ({error})")
        else:
            row.text("caption")
        captioned.append(CaptionedVideo(row, path, video_id, _one_line(row.data.get("caption"))))
    return captioned


def _from_table(
    table: Path,
    files: dict[Path, str],
    roots: Sequence[Path],
    video_column: str | None,
    caption_column: str | None,
) -> list[CaptionedVideo]:
    """Captions from one table; a video that it does not name is listed after those that it names.

    A row of a video that exists elsewhere is left out, and where single files alone are given, of a missing one too.
    A list of skipped rows that were fixed is about its own videos alone: the others need no row in it.
    """
    rows = _table_rows(table)
    skipped = _unwrap(rows)
    known = {name for row in rows for name in row.data}
    video_column = _column(table, known, "video", video_column, VIDEO_COLUMNS)
    caption_column = _column(table, known, "caption", caption_column, CAPTION_COLUMNS)
    asked = [root for root in roots if root.is_dir()]
    folders = [*asked, *(root.parent for root in roots if not root.is_dir()), table.parent]
    folders = list(dict.fromkeys(folders))  # each once, in order
    captioned = []
    for row in rows:
        name = row.text(video_column) if row.data else ""
        caption = row.text(caption_column) if row.data else ""
        places = [_absolute(folder / name) for folder in folders] if name else []
        path = next((place for place in places if place.is_file()), None)
        if name and path not in files and (path or not asked):
            continue
        if name and path is None:
            row.refuse(video_column, f"there is no file {name} in {' or '.join(map(str, folders))}")
        path = path or Path(name)
        captioned.append(CaptionedVideo(row, path, files.get(path, Path(name).as_posix()), _one_line(caption)))
    named = {video.path for video in captioned}
    for path, video_id in files.items():
        if path not in named and not skipped:
            row = SourceRow(0, "", {video_column: video_id}, name=video_id)
            row.refuse(caption_column, f"is missing: {table.name} has no row of this video")
            captioned.append(CaptionedVideo(row, path, video_id, ""))
    return captioned


def _table_rows(table: Path) -> list[SourceRow]:
    if table.suffix.lower() == ".jsonl":
        return read_rows(table, ())
    if table.suffix.lower() != ".csv":
        raise ValueError(f"{table}: captions come in a .csv with a header, or in a .jsonl")
    _, lines = read_csv(table, "the table of captions")
    if not lines:
        raise ValueError(f"{table}: holds no rows; the first line names the columns, every other one is of a video")
    rows = []
    for number, cells in lines:
        surplus = cells.pop(None, None)
        named = {name: cell for name, cell in cells.items() if name is not None}
        row = SourceRow(number, json.dumps(named), named)
        if surplus:
            row.refuse("line", f"has {len(surplus)} more cells than the header; quote texts that hold a comma")
        rows.append(row)
    return rows


def _unwrap(rows: Sequence[SourceRow]) -> bool:
    """Whether this is a list of skipped rows, whose content then takes the place of what was said about it."""
    wrapped = [row for row in rows if row.data.keys() == _SKIPPED]
    for row in wrapped:
        content = row.data["content"]
        row.data = content if isinstance(content, dict) else {}
        if not row.data:
            row.refuse("content", "is no JSON object; write the row's content, or leave the row out")
    return bool(wrapped)


def _column(table: Path, known: Iterable[str], what: str, given: str | None, usual: Sequence[str]) -> str:
    names = [given] if given is not None else list(usual)
    known = set(known)
    column = next((name for name in names if name in known), None)
    if not known:  # no row could be parsed, and each has that as its fault
        return names[0]
    if column is None:
        raise ValueError(
            f"{table}: has no column {' or '.join(names)}; set {what}_column to one of {', '.join(sorted(known))}"
        )
    return column


def _one_line(text: Any) -> str:
    return " ".join(text.split()) if isinstance(text, str) else ""
