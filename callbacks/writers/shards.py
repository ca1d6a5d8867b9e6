"""Predicted samples as shards: each on disk when it is made, joined when all are there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch import LightningModule, Trainer

from callbacks.writers.base import refuse_other_settings, write_unnoticed
from callbacks.writers.joined import JoinedWriter
from callbacks.writers.parts import PartShard, read_samples
from datamodules.schemas import FACTS, write_shards
from datamodules.shards.commit import shard_files
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.stream.predict_outputs import SkippableData, WrittenSample

#: A file among the parts while they are joined: shards of the output's name are this run's own, and not all there.
_JOINING = "joining"
_INDEX = ".index.json"
_SKIPPED = "skipped"


class ShardWriter(JoinedWriter):
    """Shard writer callback: the `WrittenSample`s of `predict_step` in ``OUTPUT-000000.tar`` ... and an index.

    The index is ``OUTPUT.index.json``. Each process appends its samples to one tar of its own under ``OUTPUT.parts``,
    each checked as every sample of its schema is. When all are there rank 0 joins them in the source's order, whatever
    rank made them, and removes the parts; until then the samples take their room twice. The same command again
    continues an interrupted run, with any number of ranks; when all is done it does nothing. Samples that could not be
    read and were skipped (`on_bad_sample: skip`) are named in the index's `made_from`.

    Args:
        output: folder and common name of the shards, as ``data/pairs/train``; on a file system that all ranks see.
        samples_per_shard: samples in a shard.
    """

    #: What the shards hold; None = the module's `schema`.
    schema: ClassVar[str | None] = None

    def __init__(self, output: str, samples_per_shard: int = 64) -> None:
        if samples_per_shard < 1:
            raise ValueError(f"samples_per_shard is {samples_per_shard}; give at least 1")
        super().__init__(output)
        self.samples_per_shard = samples_per_shard
        self.index = Path(f"{output}{_INDEX}")
        self._schema = ""

    @property
    def place(self) -> Path:
        """The parts while there are some, then the index."""
        return self.index if self.is_finished else self.parts

    @property
    def is_finished(self) -> bool:
        """Whether the index is there."""
        return self.index.exists()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the module's schema, then read what is there; see `PredictWriter.setup`."""
        if stage == "predict":
            self._schema = self.schema or str(pl_module.schema)
        super().setup(trainer, pl_module, stage)

    def current_words(self, made_from: Mapping[str, Any]) -> Mapping[str, Any]:
        """The settings in a finished index, under the names of this version."""
        return made_from

    def check_finished(self, data: SkippableData) -> None:
        """Refuse an index of other settings, or without some of the samples.

        Raises:
            ValueError: says what differs.
        """
        index = Index.read(self.index)
        remedy = "choose another `output`, or delete these shards"
        former = {"schema": index.schema, **self.current_words(index.made_from)}
        skipped = former.pop(_SKIPPED, ())
        refuse_other_settings(self.index, former, self.described_settings(), remedy)
        if lacking := [key for key in data.keys if key not in index.positions and key not in skipped]:
            raise ValueError(
                f"{self.index} is finished without {len(lacking)} of {len(data.keys)} samples, the first is "
                f"{lacking[0]!r}; {remedy}"
            )

    def outputs_in_the_way(self) -> list[Path]:
        """Shards without an index, unless this run is joining them."""
        return [] if self.begun() and self._joining().exists() else shard_files(self.output)

    def described_settings(self) -> Mapping[str, Any]:
        """The schema, and what the samples are made from."""
        return {"schema": self._schema, **self.settings}

    def take_settings(self, settings: Mapping[str, Any]) -> None:
        """The parts' settings, which may say less than an up-to-date description."""
        self._schema = settings["schema"]
        self.settings = {name: value for name, value in settings.items() if name != "schema"}

    def join_options(self) -> dict[str, Any]:
        """Samples in a shard."""
        return {"samples_per_shard": self.samples_per_shard}

    def take_join_options(self, options: Mapping[str, Any]) -> None:
        """Samples in a shard."""
        self.samples_per_shard = options["samples_per_shard"]

    def clear_join(self) -> None:
        """Remove the shards of a join that was killed before the index was there."""
        if self._joining().exists():
            for shard in shard_files(self.output):
                shard.unlink()
            self._joining().unlink()

    def joined_files(self) -> list[Path]:
        """The mark that a join is under way."""
        return [self._joining()]

    def written(self) -> Collection[str]:
        """The keys of the whole samples among the parts."""
        return read_samples(self.parts, self._schema).index.positions

    def write(self, sample: WrittenSample) -> None:
        """Add a sample to this process's tar.

        Raises:
            ValueError: it is none of its schema.
        """
        self.append(sample)

    def part_file(self) -> PartShard:
        """A tar with its lines."""
        return PartShard(self.parts, self._schema)

    def join(self, keys: Sequence[str], skipped: Collection[str]) -> None:
        """Write the shards of the parts.

        Raises:
            ValueError: nothing was made, or shards of others lie in the way.
        """
        if not keys:
            raise ValueError(f"{self.output}: no sample was predicted, so there is nothing to write")
        if shards := shard_files(self.output):  # before the mark `joining`, with which they would count as this run's
            raise ValueError(f"{shards[0]} lies in the way; delete or rename it, and give the same command again")
        made_from = {**self.settings, _SKIPPED: sorted(skipped)} if skipped else self.settings
        parts = read_samples(self.parts, self._schema)
        reader, schema_facts = SampleReader(parts.index), FACTS[self._schema]

        def samples() -> Iterator[tuple[str, dict[str, bytes]]]:
            for key in keys:
                yield key, reader.read(parts.index.positions[key])

        def facts_of(key: str, record: Any, suffixes: Collection[str]) -> dict[str, Any]:
            # Facts that a sample brought are in no member; the others are read, and checked, once more.
            return parts.facts[key] if key in parts.facts else schema_facts(key, record, suffixes)

        write_unnoticed(self._joining(), b"")
        write_shards(
            samples(),
            self.output,
            self._schema,
            facts_of=facts_of,
            samples_per_shard=self.samples_per_shard,
            made_from=made_from,
        )

    def _joining(self) -> Path:
        return self.parts / _JOINING
