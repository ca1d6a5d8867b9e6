"""Runs of `ShardWriter` on a few samples, and the moment at which a kill hits its join."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from callbacks.writers.shards import ShardWriter
from datamodules.shards.files import sync_folder
from tests.support.predict_fakes import Maker, Source, predict

#: Keys with a folder, and one that is longer than a file name may be.
KEYS = ["b/2", "a", "c", "long-" + "x" * 300, "d", "e"]


def run(folder: Path, module: Maker | None = None, data: Source | None = None, per_shard: int = 4) -> Maker:
    """Write shards called ``out`` into a folder; the module that made the samples."""
    module = module or Maker()
    predict(ShardWriter(str(folder / "out"), per_shard), module, data or Source(KEYS))
    return module


def names(folder: Path) -> list[str]:
    """The names in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


def killed(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def killed_when_joined(name: str = "out") -> Any:
    """In place of `sync_folder`, which a commit calls when its shards have their names and the index has not."""
    return lambda folder: killed() if (folder / f"{name}-000000.tar").exists() else sync_folder(folder)
