"""Files of published questions: JSON lists with their hash, faults listed all at once, and names of videos."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datamodules.user_files import user_file

#: What a video's file may end with; in TGIF-QA videos are GIFs.
VIDEO_ENDINGS = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".gif")
#: How many faults a message lists; the rest are counted.
MOST_LISTED = 10


@dataclass(frozen=True, slots=True)
class QuestionFile:
    """File of questions.

    Attributes:
        path: where it was read.
        sha256: of its bytes, so that results say which version they belong to.
        rows: its records, unchecked.
    """

    path: Path
    sha256: str
    rows: Sequence[Any]

    def source(self) -> dict[str, Any]:
        """Its name and hash, for the results."""
        return {"file": self.path.name, "sha256": self.sha256}


def read_bytes(path: Path) -> tuple[bytes, str]:
    """A file's content and its sha256.

    Raises:
        ValueError: no such file.
    """
    try:
        content = user_file(path).read_bytes()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ValueError(f"the file of questions {path} does not exist; give the published file") from error
    return content, hashlib.sha256(content).hexdigest()


def read_list(path: Path, of: str = "questions") -> QuestionFile:
    """A JSON list.

    Args:
        path: the file.
        of: what it lists, for messages.

    Raises:
        ValueError: no such file, or it holds something else.
    """
    content, sha256 = read_bytes(path)
    try:
        rows = json.loads(content)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); download it again") from error
    if not isinstance(rows, list) or not rows:
        raise ValueError(f"{path} must hold a JSON list of {of}, and at least one")
    return QuestionFile(path, sha256, rows)


def lacking(row: Any, names: Iterable[str]) -> list[str]:
    """What a record lacks: "has no NAME" for every text that is missing or empty."""
    if not isinstance(row, Mapping):
        return ["is no JSON object"]
    texts = {name: row.get(name) for name in names}
    return [f"has no {name}" for name, text in texts.items() if not isinstance(text, str) or not text.strip()]


def listed(faults: Sequence[str], indent: str = "  ") -> str:
    """The first faults of a message, a line each, and how many more there are: a screen of lines hides the first."""
    more = len(faults) - MOST_LISTED
    lines = [*faults[:MOST_LISTED], *([f"... and {more} more"] if more > 0 else [])]
    return "".join(f"\n{indent}{line}" for line in lines)


def refuse(path: Path, faults: Sequence[str]) -> None:
    """Raise a ValueError with the faults of a file, where there are some."""
    if faults:
        raise ValueError(f"{path} has {len(faults)} faults; fix these rows or take them out:{listed(faults)}")


def check_count(path: Path, count: int, expected: int | None) -> None:
    """Raise a ValueError when a file holds another number of questions than its version is known to have."""
    if expected is not None and count != expected:
        raise ValueError(
            f"{path} holds {count} questions, {expected} were asked for; give the published file, or set "
            "data.num_questions: null to take what there is"
        )


class VideoNames:
    """Names of a folder's videos, without ending; the folder is read once, not once a question."""

    def __init__(self, folder: Path) -> None:
        # Sorted, so that of two files with one stem the same is taken on every machine.
        files = sorted(folder.iterdir()) if folder.is_dir() else []
        self._files = {path.stem: path for path in files if path.suffix.lower() in VIDEO_ENDINGS}

    def find(self, *names: str) -> Path | None:
        """The first of these that is there, given without ending or with one."""
        for name in names:
            # A dot in a name may begin its ending or belong to it, as in YouTube's ids.
            path = self._files.get(name) or self._files.get(Path(name).stem)
            if path is not None and path.name.startswith(name):
                return path
        return None
