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
    """A video file and what was found to say about it.

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
        captions: a .csv or .jsonl for all videos; None = the one of `TABLES` that lies in the first folder, or else a
            .txt beside each video.
        video_column: the table's column of paths, relative to a folder of `videos` or to the table's own, or absolute;
            None = the first of `VIDEO_COLUMNS` that it has.
        caption_column: likewise, of captions.

    Raises:
        ValueError: no video, an unreadable table or one without these columns, or several tables to choose from.
    """
    files = _video_files([Path(one) for one in videos])
    table = Path(captions) if captions is not None else _found_table([Path(one) for one in videos])
    found = _beside(files) if table is None else _from_table(table, files, videos, video_column, caption_column)
    first: dict[str, SourceRow] = {}
    for one in found:
        if one.path in files and first.setdefault(one.video_id, one.row) is not one.row:
            one.row.refuse("video", f"repeats {first[one.video_id]}: the same {one.video_id}")
    return found


def _video_files(roots: Sequence[Path]) -> dict[Path, str]:
    """Absolute path -> video_id, in order."""
    found: dict[Path, str] = {}
    for root in roots:
        if root.is_dir():
            inside = sorted(path for path in root.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
            found |= {_absolute(path): path.relative_to(root).as_posix() for path in inside}
        elif root.exists():
            found[_absolute(root)] = root.name
        else:
            raise ValueError(f"{root}: no such file or folder; give folders of videos, or the videos themselves")
    if not found:
        raise ValueError(f"{', '.join(map(str, roots))}: no video in it ({', '.join(sorted(VIDEO_SUFFIXES))})")
    return found


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))


def _found_table(roots: Sequence[Path]) -> Path | None:
    there = [path for root in roots if root.is_dir() for path in (root / name for name in TABLES) if path.is_file()]
    if len(there) > 1:
        raise ValueError(f"captions could come from {', '.join(map(str, there))}; name the one that is meant")
    return there[0] if there else None


def _beside(files: dict[Path, str]) -> list[CaptionedVideo]:
    """Captions from ``clip.txt`` beside ``clip.mp4``."""
    found = []
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
        found.append(CaptionedVideo(row, path, video_id, _one_line(row.data.get("caption"))))
    return found


def _from_table(
    table: Path,
    files: dict[Path, str],
    roots: Sequence[str | Path],
    video_column: str | None,
    caption_column: str | None,
) -> list[CaptionedVideo]:
    """Captions from one table; a video that it does not name is listed after those that it names.

    A row of a video that exists elsewhere was not asked for and is left out, as is every such row where no folder was.
    A list of skipped rows that were fixed asks for its own videos alone.
    """
    rows = _table_rows(table)
    skipped = _unwrap(rows)
    known = {name for row in rows for name in row.data}
    video_column = _column(table, known, "video", video_column, VIDEO_COLUMNS)
    caption_column = _column(table, known, "caption", caption_column, CAPTION_COLUMNS)
    asked = [Path(root) for root in roots if Path(root).is_dir()]
    folders = [*asked, *(Path(root).parent for root in roots if not Path(root).is_dir()), table.parent]
    folders = list(dict.fromkeys(folders))
    found = []
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
        found.append(CaptionedVideo(row, path, files.get(path, Path(name).as_posix()), _one_line(caption)))
    named = {one.path for one in found}
    for path, video_id in files.items():
        if path not in named and not skipped:
            row = SourceRow(0, "", {video_column: video_id}, name=video_id)
            row.refuse(caption_column, f"is missing: {table.name} has no row of this video")
            found.append(CaptionedVideo(row, path, video_id, ""))
    return found


def _table_rows(table: Path) -> list[SourceRow]:
    if table.suffix.lower() == ".jsonl":
        return read_rows(table, ())
    if table.suffix.lower() != ".csv":
        raise ValueError(f"{table}: captions come in a .csv with a header, or in a .jsonl")
    _, lines = read_csv(table, "the table of captions")
    if not lines:
        raise ValueError(f"{table}: holds no rows; the first line names the columns, every other one is of a video")
    return [_csv_row(number, line) for number, line in lines]


def _unwrap(rows: Sequence[SourceRow]) -> bool:
    """Whether this is a list of skipped rows, whose content then takes the place of what was said about it."""
    wrapped = [row for row in rows if row.data.keys() == _SKIPPED]
    for row in wrapped:
        content = row.data["content"]
        row.data = content if isinstance(content, dict) else {}
        if not row.data:
            row.refuse("content", "is no JSON object; write the row's content, or leave the row out")
    return bool(wrapped)


def _csv_row(number: int, line: dict[Any, Any]) -> SourceRow:
    surplus = line.pop(None, None)
    row = SourceRow(number, json.dumps(line), line)
    if surplus:
        row.refuse("line", f"has {len(surplus)} more cells than the header; quote texts that hold a comma")
    return row


def _column(table: Path, known: Iterable[str], what: str, given: str | None, usual: Sequence[str]) -> str:
    names = [given] if given is not None else list(usual)
    known = set(known)
    column = next((name for name in names if name in known), None)
    if not known:  # no row could be parsed, which is told row by row
        return names[0]
    if column is None:
        raise ValueError(
            f"{table}: has no column {' or '.join(names)}; set {what}_column to one of {', '.join(sorted(known))}"
        )
    return column


def _one_line(text: Any) -> str:
    return " ".join(text.split()) if isinstance(text, str) else ""
