"""The disk space that a run's checkpoints and exports will take, against what is free."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from callbacks.adapter_export import AdapterExport
from lightning_modules.policies.adapters import has_adapter

#: The weights that train and the two moments that Adam keeps of each: what a checkpoint holds of them, at most.
_COPIES_IN_A_CHECKPOINT = 3


@dataclass(frozen=True, slots=True)
class DiskNeed:
    """The disk space that one folder of a run needs.

    Attributes:
        folder: it need not exist yet.
        what: "checkpoints", "exports".
        count: files or folders that are there at the same time, the one that is being written included.
        size: bytes of each, by estimate.
    """

    folder: Path
    what: str
    count: int
    size: int

    def __str__(self) -> str:
        return f"{self.what} in {self.folder}: at most {self.count} of {gigabytes(self.size)}"

    @property
    def missing(self) -> int:
        """Bytes still to be written, beside what an earlier start of the run has left there."""
        there = sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())
        return max(0, self.count * self.size - there)

    @property
    def existing(self) -> Path:
        """The folder, or the nearest one above it that exists."""
        return next(path for path in (self.folder, *self.folder.absolute().parents) if path.exists())


def disk_needs(trainer: Trainer, policy: Any, steps: int | None) -> list[DiskNeed]:
    """What a run will write, by estimate.

    Args:
        trainer: with its callbacks.
        policy: built, on any device.
        steps: optimizer steps of the whole run; None = unknown, and what is written every N steps is counted once.
    """
    sizes = [(weights.numel() * weights.element_size(), weights.requires_grad) for weights in policy.parameters()]
    trained = sum(size for size, trains in sizes if trains)
    # Without an adapter an export is the whole model.
    exported = trained if has_adapter(policy) else sum(size for size, _ in sizes)
    needs = []
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, ModelCheckpoint):
            folder = Path(callback.dirpath or Path(trainer.default_root_dir) / "checkpoints")
            kept = callback.save_top_k
            if kept < 0:
                kept = _times(steps, callback._every_n_train_steps)
            # A new file is whole before an old one is removed.
            count = kept + bool(callback.save_last) + 1
            needs.append(DiskNeed(folder, "checkpoints", count, _COPIES_IN_A_CHECKPOINT * trained))
        elif isinstance(callback, AdapterExport):
            folder = callback.folder_of(trainer)
            # The last export, and a new one that is written beside it.
            count = 2 + (_times(steps, callback.every_n_steps) if callback.every_n_steps else 0)
            needs.append(DiskNeed(folder, "exports", count, exported))
    return needs


def _times(steps: int | None, every: int) -> int:
    """How often something happens every so many of a run's steps."""
    return 1 if steps is None or every < 1 else max(1, steps // every)


def disk_faults(needs: Sequence[DiskNeed]) -> list[str]:
    """The disks that have not room for what is written to them."""
    disks: dict[int, list[DiskNeed]] = defaultdict(list)
    for need in needs:
        # Folders on one device share its free space.
        disks[os.stat(need.existing).st_dev].append(need)
    faults = []
    for parts in disks.values():
        missing, free = sum(part.missing for part in parts), shutil.disk_usage(parts[0].existing).free
        if missing > free:
            faults.append(
                f"{' and '.join(sorted({str(part.folder) for part in parts}))}: about {gigabytes(missing)} will be "
                f"written ({'; '.join(map(str, parts))}), {gigabytes(free)} are free; free some space there, choose "
                "another trainer.default_root_dir, or write less often"
            )
    return faults


def gigabytes(size: float) -> str:
    """A size in bytes as text, in GB or MB."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
