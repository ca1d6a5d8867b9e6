"""Keys of shards, and a module of which rank 1 is slow: for what ranks make of one `predict`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from datamodules.stream.indexed_data import Split
from datamodules.stream.predict_data import PredictData
from tests.support.predict_fakes import Maker
from tests.support.shard_samples import Batch, KeyRecipe


class KeyData(PredictData[Batch]):
    """Batches of keys."""

    schema: ClassVar[str] = "vidpref/vista"

    def recipe(self, split: Split) -> KeyRecipe:
        return KeyRecipe()


class UnevenMaker(Maker):
    """Both ranks begin together; rank 1 is at its first batch until rank 0 has made so many samples.

    Args:
        folder: of the lists of made samples, a file a rank.
        behind: how many samples rank 0 makes before rank 1 makes its first.
        dies: rank 1 is killed then.
    """

    def __init__(self, folder: Path, behind: int = 0, dies: bool = False) -> None:
        super().__init__()
        self.folder, self.behind, self.dies = folder, behind, dies

    def made_by(self, rank: int) -> list[str]:
        path = self.folder / f"rank{rank}"
        return path.read_text().split() if path.exists() else []

    def predict_step(self, batch: Any, batch_idx: int) -> list[Any]:
        if batch_idx == 0:
            (self.folder / f"begun{self.global_rank}").touch()
            _wait(lambda: len(list(self.folder.glob("begun*"))) == self.trainer.world_size)
        if self.global_rank == 1:
            _wait(lambda: len(self.made_by(0)) >= self.behind)
            if self.dies:
                os.kill(os.getpid(), signal.SIGKILL)
        samples = [self.sample(key) for key, real in zip(batch.keys, batch.mask, strict=True) if real]
        with (self.folder / f"rank{self.global_rank}").open("a") as file:
            file.writelines(f"{sample.key}\n" for sample in samples)
        return samples


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not until():
        assert time.monotonic() < deadline, "the other rank did not come so far"
        time.sleep(0.05)
