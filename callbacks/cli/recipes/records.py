"""Records of stages: what was run on what, so that a finished stage is passed over until command or inputs change."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from difflib import SequenceMatcher
from pathlib import Path

from callbacks.cli.recipes.stage import Stage
from datamodules.shards.column_files import column_files
from datamodules.shards.commit import shard_files
from datamodules.shards.files import write_whole
from datamodules.shards.index import digest

#: Files up to this size count by their content, larger ones by size and time of change.
_READ_BYTES = 8 * 2**20
_INDEX = ".index.json"


@dataclass(frozen=True, slots=True)
class Record:
    """Record of a stage that was begun.

    Attributes:
        command: its command as one line, without the words for devices.
        reads: path -> `fingerprint` when it began.
        finished: whether it came to its end.
        seconds: how long it ran, with earlier attempts that were stopped in order.
        ended: the time of its end, in the form of ISO 8601; "" before.
    """

    command: str
    reads: dict[str, str] = field(default_factory=dict)
    finished: bool = False
    seconds: float = 0.0
    ended: str = ""

    def write(self, path: Path) -> None:
        """Write it whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, (json.dumps(asdict(self), indent=2) + "\n").encode())

    @classmethod
    def read(cls, path: Path) -> Record | None:
        """Read it; None where there is none, or none of this form."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def ended_now(self, seconds: float, finished: bool) -> Record:
        """The record after an attempt."""
        ended = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        return Record(self.command, self.reads, finished, round(self.seconds + seconds, 1), ended)


def new_record(stage: Stage, folder: Path, former: Record | None) -> Record:
    """The record of a stage that begins; an attempt that was stopped and goes on keeps its seconds."""
    reads = fingerprints(stage, folder)
    goes_on = former is not None and not former.finished and (former.command, former.reads) == (_counted(stage), reads)
    return Record(_counted(stage), reads, seconds=former.seconds if former is not None and goes_on else 0.0)


def fingerprints(stage: Stage, folder: Path) -> dict[str, str]:
    """Every path that a stage reads -> its `fingerprint`."""
    return {str(path): fingerprint(path) for path in stage.inputs(folder)}


def fingerprint(path: Path) -> str:
    """A text that changes when a file or a folder changes; "" where there is none.

    A file up to 8 MiB counts by its content, a larger one by its size and time, a folder by its files' names, sizes and
    times. Hidden files are left out.
    """
    if path.is_file():
        status = path.stat()
        if status.st_size <= _READ_BYTES:
            return f"content {digest(path.read_bytes())}"
        return f"size {status.st_size}, changed {status.st_mtime_ns}"
    if not path.is_dir():
        return ""
    files = []
    for place, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith("."):
                status = os.stat(os.path.join(place, name))
                relative = os.path.relpath(os.path.join(place, name), path)
                files.append(f"{relative} {status.st_size} {status.st_mtime_ns}")
    listing = "\n".join(sorted(files))
    return f"{len(files)} files {digest(listing.encode())}"


def why_unfinished(stage: Stage, folder: Path, record: Record | None) -> str:
    """Why a stage has to be run; "" = it is done.

    Args:
        stage: the stage.
        folder: where it runs.
        record: its record.
    """
    if record is None:
        return "not run yet"
    if has_changed(stage, record):
        return f"its command has changed ({_difference(shlex.split(record.command), list(stage.command))})"
    if changed := [path for path, text in fingerprints(stage, folder).items() if record.reads.get(path) != text]:
        return f"{changed[0]} has changed"
    if not record.finished:
        # A `prepare` refuses what is there already, and writes its indexes last: killed after that, it is done.
        outputs = stage.outputs(folder)
        if stage.command[0] == "prepare" and outputs and all(map(_is_whole_index, outputs)):
            return ""
        return "interrupted"
    if missing := [path for path in stage.outputs(folder) if not path.exists()]:
        return f"{missing[0]} is gone"
    return ""


def has_changed(stage: Stage, record: Record) -> bool:
    """Whether the record is of another command."""
    return record.command != _counted(stage)


def set_aside(stage: Stage, folder: Path) -> list[tuple[Path, Path]]:
    """Rename what a stage has written, ``.former-1`` ... behind the name: where it went, and where it was.

    Otherwise a fit would go on at its last checkpoint, and a `prepare` refuse what is there.
    """
    paths = [path for path in stage.outputs(folder) if path.exists()]
    for path in list(paths):
        if path.name.endswith(_INDEX):
            shards = path.with_name(path.name.removesuffix(_INDEX))
            parts = Path(f"{shards}.parts")
            paths += [*shard_files(shards), *column_files(path), *([parts] if parts.exists() else [])]
    ending = next(text for text in _endings() if not any(Path(f"{path}{text}").exists() for path in paths))
    moved = [(path, Path(f"{path}{ending}")) for path in paths if path.exists()]
    for path, former in moved:
        path.rename(former)
    return moved


def _difference(before: Sequence[str], now: Sequence[str]) -> str:
    """The words that differ, each with the flag before it."""
    changes = []
    for tag, i, j, k, end in SequenceMatcher(a=before, b=now, autojunk=False).get_opcodes():
        if tag != "equal":
            flag = [before[i - 1]] if i and before[i - 1].startswith("--") else []
            changes.append(" ".join([*flag, *before[i:j], "->", *now[k:end]]))
    return "; ".join(changes)


def _counted(stage: Stage) -> str:
    return shlex.join(stage.command)


def _endings() -> Iterable[str]:
    number = 0
    while True:
        number += 1
        yield f".former-{number}"


def _is_whole_index(path: Path) -> bool:
    return path.name.endswith(_INDEX) and path.is_file()


class Place:
    """Place of a recipe's records and logs.

    Args:
        output: the folder that holds them.
        folder: where stages run.
    """

    def __init__(self, output: Path, folder: Path) -> None:
        self.output, self.folder = output, folder

    def record(self, name: str) -> Path:
        """A stage's record."""
        return self.output / "stages" / f"{name}.json"

    def log(self, name: str) -> Path:
        """A stage's log."""
        return self.output / "logs" / f"{name}.log"

    def why_unfinished(self, stage: Stage) -> str:
        """Why a stage has to be run now; "" = it is done."""
        return why_unfinished(stage, self.folder, Record.read(self.record(stage.name)))
