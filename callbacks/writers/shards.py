"""Predicted samples as shards: written one by one while the run lasts, joined when all are there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from lightning.pytorch import LightningModule, Trainer

from callbacks.writers.base import PredictWriter, refuse_other_settings, write_whole
from datamodules.schemas import write_shards
from datamodules.shards.index import Index, digest
from datamodules.shards.sample_reader import SampleReader
from datamodules.stream.predict_outputs import SkippableData, WrittenSample, differences

_SETTINGS = "settings.json"
_INDEX = ".index.json"
_SKIPPED = "skipped"


class ShardWriter(PredictWriter):
    """Writes what `predict_step` returns, `WrittenSample`s, into ``OUTPUT-000000.tar`` ... and ``OUTPUT.index.json``.

    Each sample is at once a small shard of its own under ``OUTPUT.parts``, checked as every sample of its schema is.
    When all are there rank 0 joins them in the source's order, whatever rank made them, and removes the parts; until
    then the samples take their room twice. The same command again continues an interrupted run, with any number of
    ranks; when all is done it does nothing. Samples that could not be read and were skipped (`on_bad_sample: skip`) are
    named in the index's `made_from`.

    Args:
        output: folder and common name of the shards, as ``data/pairs/train``; on a file system that all ranks see.
        samples_per_shard: samples in a shard.
    """

    def __init__(self, output: str, samples_per_shard: int = 64) -> None:
        if samples_per_shard < 1:
            raise ValueError(f"samples_per_shard is {samples_per_shard}; give at least 1")
        self.output = Path(output)
        self.samples_per_shard = samples_per_shard
        self.parts = Path(f"{output}.parts")
        self.index = Path(f"{output}{_INDEX}")
        self._schema = ""

    @property
    def place(self) -> Path:
        """The parts while there are some, then the index."""
        return self.index if self.index.exists() else self.parts

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Look what is there; see `PredictWriter.setup`."""
        if stage == "predict":
            self._schema = str(pl_module.schema)
        super().setup(trainer, pl_module, stage)

    def begin(self, data: SkippableData) -> None:
        """Make the folder of parts, and clear what a kill left half-written."""
        if self.index.exists() or (self._shards() and not self._settings().exists()):
            return
        self.parts.mkdir(parents=True, exist_ok=True)
        if not self._settings().exists():
            write_whole(self._settings(), json.dumps({"schema": self._schema, **self.settings}, indent=2).encode())
        whole = {path.name.removesuffix(_INDEX) for path in self.parts.glob(f"*{_INDEX}")}
        for path in self.parts.iterdir():
            if path != self._settings() and path.name.partition("-")[0].removesuffix(_INDEX) not in whole:
                path.unlink()
        for shard in self._shards():  # joined, but killed before the index was there
            shard.unlink()

    def check(self, data: SkippableData) -> None:
        """Refuse parts, or a finished index, that other settings made, and shards that lie in the way.

        Raises:
            ValueError: says what differs and how to go on.
        """
        now = {"schema": self._schema, **self.settings}
        if self.index.exists():
            index = Index.read(self.index)
            mend = "choose another `output`, or delete these shards"
            before = {"schema": index.schema, **index.made_from}
            skipped = before.pop(_SKIPPED, ())
            refuse_other_settings(self.index, differences(before, now), mend)
            if lacking := [key for key in data.keys if key not in index.positions and key not in skipped]:
                raise ValueError(
                    f"{self.index} is finished without {len(lacking)} of {len(data.keys)} samples, the first is "
                    f"{lacking[0]!r}; {mend}"
                )
        elif not self._settings().exists():
            names = ", ".join(path.name for path in self._shards()[:3])
            raise ValueError(f"{self.output.parent}: {names} lie in the way; choose another `output`, or delete them")
        else:
            faults = differences(json.loads(self._settings().read_text()), now)
            mend = "take those settings again to continue it, or delete that folder to begin anew"
            refuse_other_settings(self.parts, faults, mend)

    def finished(self, data: SkippableData) -> list[str]:
        """The samples in the index, or those whose part is whole."""
        if self.index.exists():
            return list(data.keys)
        there = {path.name for path in self.parts.glob(f"*{_INDEX}")}
        return [key for key in data.keys if f"{_name(key)}{_INDEX}" in there]

    def write(self, sample: WrittenSample) -> None:
        """Write a sample as a shard of its own.

        Raises:
            ValueError: it is none of its schema.
        """
        write_shards([(sample.key, sample.members)], self.parts / _name(sample.key), self._schema)

    def finish(self, data: SkippableData, skipped: Collection[str]) -> None:
        """Join the parts, in the source's order, and remove them."""
        if not self.index.exists():
            made = self._joined(self.finished(data))
            count = self.samples_per_shard
            made_from = {**self.settings, _SKIPPED: sorted(skipped)} if skipped else self.settings
            write_shards(made, self.output, self._schema, samples_per_shard=count, made_from=made_from)
        shutil.rmtree(self.parts, ignore_errors=True)

    def _joined(self, keys: list[str]) -> Iterator[tuple[str, dict[str, bytes]]]:
        for key in keys:
            part = Index.read(self.parts / f"{_name(key)}{_INDEX}", self._schema)
            yield key, SampleReader(part).read(0)

    def _settings(self) -> Path:
        return self.parts / _SETTINGS

    def _shards(self) -> list[Path]:
        return sorted(self.output.parent.glob(f"{self.output.name}-[0-9][0-9][0-9][0-9][0-9][0-9].tar"))


def _name(key: str) -> str:
    """The name of a key's part: keys may have folders and any length."""
    return digest(key.encode())
