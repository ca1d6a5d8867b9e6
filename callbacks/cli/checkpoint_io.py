"""Checkpoint files that are whole or not there, whatever ends the process."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import is_zipfile

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.types import _PATH

from datamodules.shards.files import replaced_file


class AtomicCheckpointIO(TorchCheckpointIO):
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
            CheckpointError: the disk is full, or the folder cannot be written.
            TypeError: `storage_options` are given; none are used.
        """
        if storage_options is not None or "://" in os.fspath(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            # Names are compared and not globbed: they may have brackets, and `last.ckpt.tmp-mine` is somebody else's.
            leftover = re.compile(rf"{re.escape(target.name)}\.tmp\d+", re.ASCII)
            for file in [file for file in target.parent.iterdir() if leftover.fullmatch(file.name)]:
                file.unlink(missing_ok=True)
            with replaced_file(target, f"{target.name}.tmp{os.getpid()}") as stream:
                torch.save(checkpoint, stream)
        except (OSError, RuntimeError) as error:
            # torch hides the system's error behind one of its own.
            chain = (error, error.__cause__, error.__context__)
            cause = next((fault for fault in chain if isinstance(fault, OSError)), None)
            if cause is None:
                raise
            whole = ", ".join(_whole_checkpoints(target.parent))
            remedy = f"Former ones are whole ({whole}), the same command goes on" if whole else "There is no former one"
            raise CheckpointError(
                f"{path}: the checkpoint cannot be written ({cause.strerror or cause}); free some space or make the "
                f"folder writable, or choose another trainer.default_root_dir. {remedy}"
            ) from error

    def load_checkpoint(self, path: _PATH, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Read a checkpoint.

        Raises:
            ValueError: it is not whole.
        """
        with whole_checkpoint(path):
            return super().load_checkpoint(path, *args, **kwargs)


class CheckpointError(OSError):
    """A checkpoint that could not be written; the message says which, why and what to do."""


@contextmanager
def whole_checkpoint(path: _PATH) -> Iterator[None]:
    """Context in which a checkpoint is read: a file that was cut short or altered is an error that says so.

    Raises:
        ValueError: the file is not whole; names it, and the whole ones beside it.
    """
    try:
        yield
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        file = Path(path)
        if isinstance(error, PermissionError) or not file.is_file():
            raise
        # A whole archive that cannot be used is another fault, unless torch's reader says that a part is altered.
        if is_zipfile(file) and "PytorchStreamReader" not in str(error):
            raise
        others = ", ".join(name for name in _whole_checkpoints(file.parent) if name != file.name)
        raise ValueError(
            f"{path}: is no whole checkpoint, its {file.stat().st_size} bytes were cut short or altered, as by a full "
            f"disk or a broken copy; give another one by --ckpt_path (beside it: {others or 'none'}), or delete it to "
            "start from the first step"
        ) from error


def _whole_checkpoints(folder: Path) -> list[str]:
    """The names of a folder's checkpoints, but for those that were cut short."""
    return sorted(path.name for path in folder.glob("*.ckpt") if is_zipfile(path))
