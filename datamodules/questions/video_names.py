"""Names of a benchmark's videos, read from annotation files of every published layout."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from datamodules.questions.open_qa import PREFIXES
from datamodules.questions.open_qa_files import TABLES, clip_names
from datamodules.user_files import user_file

#: The fields in which published annotation files name a video.
_NAME_FIELDS = ("video", "video_name", "video_id", "video_path", "vid", "gif_name")
_ENDINGS = (".json", *TABLES)


def benchmark_names(files: Iterable[str | Path], mapping: str | Path | None = None) -> set[str]:
    """The names of all videos in annotation files: JSON of any published layout, TGIF-QA's tables, or folders of such.

    MSVD-QA and MSRVTT-QA number their videos; 1301 and 7010 become vid1301 and video7010, which their files are called.

    Args:
        files: annotations, or folders that are searched with all folders in them.
        mapping: MSVD's `youtube_mapping.txt`, which adds the clips' names.

    Raises:
        ValueError: a file that is not there or of another format, no video is named, or the mapping knows none of them.
    """
    given = [Path(file) for file in files]
    paths: list[Path] = []
    for file in given:
        inside = sorted(path for path in file.rglob("*") if path.suffix in _ENDINGS) if file.is_dir() else [file]
        paths += inside
    names = {name for path in paths for name in _names_in(_content(path))}
    if not names:
        fields = ", ".join((*_NAME_FIELDS, "id beside questions"))
        raise ValueError(f"no video is named in {', '.join(map(str, given))}; looked for the fields {fields}")
    if mapping is not None:
        clips = clip_names(Path(mapping))
        clips_named = {clips[name] for name in names if name in clips}
        if not clips_named:
            raise ValueError(f"{mapping} knows none of the videos, such as {min(names)}; it is for MSVD-QA's questions")
        names |= clips_named
    return names


def _content(path: Path) -> Any:
    try:
        if path.suffix not in TABLES:
            return json.loads(user_file(path).read_bytes())
        text = user_file(path).read_text(encoding="utf-8-sig")
        # TGIF-QA's tables are tab-separated, also where they are called .csv, and quote nothing.
        if "\t" in text.partition("\n")[0]:
            return list(csv.DictReader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE))
        return list(csv.DictReader(io.StringIO(text, newline="")))
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"{path}: cannot be read as annotations, JSON or a table ({error})") from error


def _names_in(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for inner in value:
            yield from _names_in(inner)
    elif isinstance(value, dict):
        if "questions" in value and isinstance(value.get("id"), str):
            yield value["id"]  # EventHallusion
        for key, inner in value.items():
            if key in _NAME_FIELDS and isinstance(inner, str):
                yield inner
            elif key == "video_id" and isinstance(inner, int):
                # Of the two that number their videos, MSRVTT-QA alone gives a category.
                yield f"{PREFIXES['msrvtt_qa' if 'category_id' in value else 'msvd_qa']}{inner}"
            else:
                yield from _names_in(inner)
