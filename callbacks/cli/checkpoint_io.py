"""Checkpoints that a kill cannot tear."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH


class ReplaceIO(TorchCheckpointIO):
    """Writes a checkpoint beside its final name, flushes it to disk, then renames it into place.

    A reader, and a run that resumes, finds either the old file or the new one, whole, on any local file system.
    Lightning's own writer fills a temporary folder first and moves the file, which is a copy, and can be cut in the
    middle, where that folder lies on another file system. A kill leaves at most a ``.tmp`` file, which the next save
    under the same name sweeps away. Remote addresses (``s3://...``) are written by Lightning, whose stores replace
    objects whole.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        """Write `checkpoint` to `path`, all or nothing.

        Raises:
            TypeError: `storage_options` are given; none are used.
        """
        if storage_options is not None or "://" in os.fspath(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        for leftover in target.parent.glob(f"{target.name}.tmp*"):
            leftover.unlink(missing_ok=True)
        temporary = target.with_name(f"{target.name}.tmp{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut; not every system lets a folder be opened for that."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
