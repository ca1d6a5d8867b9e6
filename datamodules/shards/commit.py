"""Commit of shards, written under partial names: they become a data set at one moment, which a kill cannot split.

1. The index is written as ``NAME.index.json.tmp``: it says which shards belong to the attempt. Of a large one its
   columns are written before it, under a name that no other content has.
2. The shards get their names.
3. The index gets its name. This is the commit point: without it there is no data set.

After a kill before 3 the next attempt finds the shards named in the partial index and replaces them. Shards that no
partial index names are somebody else's, and never touched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from datamodules.shards.column_files import remove_stray_columns
from datamodules.shards.files import sync_folder, write_whole
from datamodules.shards.index import Index, digest

#: What a shard is called while it is written.
PARTIAL = ".tmp"
#: Beside several data sets that are committed together: which of them belong to the attempt.
_JOINT = ".commit.json"


def commit(indexes: Mapping[Path, Index], joint: Path | None = None) -> None:
    """Give the shards their names, and then their indexes.

    Args:
        indexes: folder and common name -> index; its shards are there under their partial names.
        joint: of several data sets: folder and common name of the note by which they are committed together.
    """
    for output, index in indexes.items():
        # Before its partial index is replaced, which is all that says whose they are.
        for shard in sorted(_former_attempt(output)):
            shard.unlink()
        write_whole(_partial_index(output), index.written_beside(_index_path(output)))
    for output, index in indexes.items():
        for entry in index.shards:
            Path(f"{entry.address}{PARTIAL}").replace(entry.address)
        sync_folder(output.parent)
    # Several indexes cannot get their names at one moment: the note says which ones to take back after a kill.
    if joint is not None:
        marks = {output.name: digest(_partial_index(output).read_bytes()) for output in indexes}
        write_whole(f"{joint}{_JOINT}", json.dumps(marks).encode())
    for output in indexes:
        _partial_index(output).replace(_index_path(output))
        sync_folder(output.parent)
    if joint is not None:
        Path(f"{joint}{_JOINT}").unlink()


def refuse_existing(output: Path) -> None:
    """A sealed shard is never rewritten; one of a former attempt, which was killed before its commit, may be.

    Raises:
        ValueError: an index of that name, or shards that no partial index of that name claims.
    """
    former = _former_attempt(output)
    existing = [path for path in (_index_path(output), *shard_files(output)) if path.exists() and path not in former]
    if existing:
        names = ", ".join(path.name for path in existing[:3]) + (" ..." if len(existing) > 3 else "")
        raise ValueError(f"{output.parent}: {names} are there already; delete them, or choose another name")


def undo_joint(joint: Path, outputs: Iterable[Path]) -> None:
    """Take back the indexes of a joint commit that was killed between the first one and the last.

    Args:
        joint: as for `commit`.
        outputs: the data sets of this attempt; of others nothing is taken back.
    """
    note = Path(f"{joint}{_JOINT}")
    if not note.exists():
        return
    marks = json.loads(note.read_bytes())
    for output in outputs:
        index = _index_path(output)
        if index.exists() and digest(index.read_bytes()) == marks.get(output.name):
            index.replace(_partial_index(output))
    note.unlink()


def remove_partials(output: Path) -> None:
    """Remove what has a partial name; the partial index only where no shard depends on it; columns without an index."""
    for partial in shard_files(output, f".tar{PARTIAL}"):
        partial.unlink()
    if not shard_files(output):
        _partial_index(output).unlink(missing_ok=True)
    remove_stray_columns(_index_path(output), _index_path(output), _partial_index(output))


def _former_attempt(output: Path) -> set[Path]:
    """The shards that the partial index of a killed attempt claims, by name and size."""
    try:
        shards = json.loads(_partial_index(output).read_bytes())["shards"]
        claimed = {output.parent / shard["name"]: shard["bytes"] for shard in shards}
    except (OSError, ValueError, KeyError, TypeError):  # none, or killed while it was written: nothing was renamed yet
        return set()
    return {path for path in shard_files(output) if path.stat().st_size == claimed.get(path)}


def _index_path(output: Path) -> Path:
    return Path(f"{output}.index.json")


def _partial_index(output: Path) -> Path:
    return Path(f"{output}.index.json{PARTIAL}")


def shard_files(output: Path, ending: str = ".tar") -> list[Path]:
    """The shards of one output that are there, in order: ``OUTPUT-000000.tar`` ... and no other name.

    The name is compared and not expanded: an output may be called ``tr[ai]n``, and ``train-part1-000000.tar`` is none
    of ``train``.
    """
    form = re.compile(rf"{re.escape(output.name)}-(\d{{6}}|[1-9]\d{{6,}}){re.escape(ending)}", re.ASCII)
    paths = output.parent.iterdir() if output.parent.is_dir() else ()
    return sorted(path for path in paths if form.fullmatch(path.name))
