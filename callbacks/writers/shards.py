"""Predicted samples as shards: written one by one while the run lasts, joined when all are there."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from callbacks.writers.base import PARTIAL, PredictWriter, refuse_other_settings, write_unnoticed
from datamodules.schemas import write_shards
from datamodules.shards.commit import shard_files
from datamodules.shards.index import Index, digest
from datamodules.shards.sample_reader import SampleReader
from datamodules.stream.predict_outputs import SkippableData, WrittenSample

_SETTINGS = "settings.json"
#: A file among the parts while they are joined: shards of the output's name are this run's own, and not all there.
_JOINING = "joining"
_INDEX = ".index.json"
_SKIPPED = "skipped"
#: The files of one part, whole or not, see `_name`; nothing else among the parts is ever removed.
_PART = re.compile(r"([0-9a-f]{32})(-\d{6}\.tar|\.index\.json)(\.tmp)?")


class ShardWriter(PredictWriter):
    """Shard writer callback: the `WrittenSample`s of `predict_step` in ``OUTPUT-000000.tar`` ... and an index.

    The index is ``OUTPUT.index.json``. Each sample is at once a small shard of its own under ``OUTPUT.parts``, checked
    as every sample of its schema is. When all are there rank 0 joins them in the source's order, whatever rank made
    them, and removes the parts; until then the samples take their room twice. The same command again continues an
    interrupted run, with any number of ranks; when all is done it does nothing. Samples that could not be read and were
    skipped (`on_bad_sample: skip`) are named in the index's `made_from`.

    Args:
        output: folder and common name of the shards, as ``data/pairs/train``; on a file system that all ranks see.
        samples_per_shard: samples in a shard.
    """

    #: What the shards hold; None = the module's `schema`.
    schema: ClassVar[str | None] = None

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

    @property
    def locked(self) -> tuple[Path, bool]:
        """The shards."""
        return self.output, False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Take the module's schema, then read what is there; see `PredictWriter.setup`."""
        if stage == "predict":
            self._schema = self.schema or str(pl_module.schema)
        super().setup(trainer, pl_module, stage)

    def begin(self, data: SkippableData) -> None:
        """Make the folder of parts, and clear what a kill left half-written."""
        if self.index.exists() or self._in_the_way():
            return
        self.parts.mkdir(parents=True, exist_ok=True)
        if not self._settings().exists():
            write_unnoticed(self._settings(), json.dumps({"schema": self._schema, **self.settings}, indent=2).encode())
        # A part's index is written last, so that a part without one is not whole.
        whole = {path.name.removesuffix(_INDEX) for path in self._own_files() if path.name.endswith(_INDEX)}
        for path in self._own_files():
            part = _PART.fullmatch(path.name)
            if part is None or part[1] not in whole:
                path.unlink()
        if self._joining().exists():  # killed before the index was there
            for shard in shard_files(self.output):
                shard.unlink()
            self._joining().unlink()

    def current_words(self, made_from: Mapping[str, Any]) -> Mapping[str, Any]:
        """The settings in a finished index, under the names of this version."""
        return made_from

    def check(self, data: SkippableData) -> None:
        """Refuse parts, or a finished index, of other settings, and files of others under the output's names.

        Raises:
            ValueError: says what differs and how to go on.
        """
        current = {"schema": self._schema, **self.settings}
        if self.index.exists():
            index = Index.read(self.index)
            remedy = "choose another `output`, or delete these shards"
            former = {"schema": index.schema, **self.current_words(index.made_from)}
            skipped = former.pop(_SKIPPED, ())
            refuse_other_settings(self.index, former, current, remedy)
            if lacking := [key for key in data.keys if key not in index.positions and key not in skipped]:
                raise ValueError(
                    f"{self.index} is finished without {len(lacking)} of {len(data.keys)} samples, the first is "
                    f"{lacking[0]!r}; {remedy}"
                )
        elif paths := self._in_the_way():
            names = ", ".join(str(path.relative_to(self.output.parent)) for path in paths[:3])
            raise ValueError(f"{self.output.parent}: {names} lie in the way; choose another `output`, or delete them")
        else:
            former = json.loads(self._settings().read_text())
            remedy = "take those settings again to continue it, or delete that folder to begin again"
            refuse_other_settings(self.parts, former, current, remedy)
            # The samples that are there were made from these, which may say less than an up-to-date description.
            self.settings = {name: value for name, value in former.items() if name != "schema"}

    def finished(self, data: SkippableData) -> list[str]:
        """The samples in the index, or those whose part is whole."""
        if self.index.exists():
            return list(data.keys)
        names = {path.name for path in self._own_files()}
        return [key for key in data.keys if f"{_name(key)}{_INDEX}" in names]

    def write(self, sample: WrittenSample) -> None:
        """Write a sample as a shard of its own.

        Raises:
            ValueError: it is none of its schema.
        """
        facts_of = None if sample.facts is None else lambda *_: dict(sample.facts or {})
        write_shards([(sample.key, sample.members)], self.parts / _name(sample.key), self._schema, facts_of=facts_of)

    def finish(self, data: SkippableData, skipped: Collection[str]) -> None:
        """Join the parts, in the source's order, and remove them.

        Raises:
            ValueError: nothing was made.
        """
        if not self.index.exists():
            self._join(self.finished(data), skipped)
        self._remove_parts()

    def _join(self, keys: list[str], skipped: Collection[str]) -> None:
        if not keys:
            raise ValueError(f"{self.output}: no sample was predicted, so there is nothing to write")
        if shards := shard_files(self.output):  # before the mark `joining`, with which they would count as this run's
            raise ValueError(f"{shards[0]} lies in the way; delete or rename it, and give the same command again")
        made_from = {**self.settings, _SKIPPED: sorted(skipped)} if skipped else self.settings
        facts: dict[str, dict[str, Any]] = {}

        def samples() -> Iterator[tuple[str, dict[str, bytes]]]:
            for key in keys:
                part = Index.read(self.parts / f"{_name(key)}{_INDEX}", self._schema)
                facts[key] = part.entries[0].facts
                yield key, SampleReader(part).read(0)

        write_unnoticed(self._joining(), b"")
        write_shards(
            samples(),
            self.output,
            self._schema,
            # Those of a class with a schema of its own are in no member; the others are read, and checked, once more.
            facts_of=(lambda key, *_: facts[key]) if self.schema else None,
            samples_per_shard=self.samples_per_shard,
            made_from=made_from,
        )

    def _remove_parts(self) -> None:
        if not self.parts.is_dir():
            return
        for path in [*self._own_files(), self._joining(), self._settings()]:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.parts.rmdir()
        if self.parts.is_dir():
            names = ", ".join(sorted(path.name for path in self.parts.iterdir())[:3])
            rank_zero_warn(f"{self.parts} is left where it is: {names} in it were not written by this run")

    def _in_the_way(self) -> list[Path]:
        """Files under the output's names that no run of this writer made: they are neither used nor removed."""
        ours = self._settings().exists()
        others = [] if ours or not self.parts.is_dir() else list(self.parts.iterdir())
        shards = [] if ours and self._joining().exists() else shard_files(self.output)
        return [*shards, *sorted(path for path in others if not PARTIAL.fullmatch(path.name))]

    def _own_files(self) -> list[Path]:
        """The files of parts, and what a killed `write_unnoticed` left."""
        forms = (_PART, PARTIAL)
        return [path for path in self.parts.iterdir() if any(form.fullmatch(path.name) for form in forms)]

    def _settings(self) -> Path:
        return self.parts / _SETTINGS

    def _joining(self) -> Path:
        return self.parts / _JOINING


def _name(key: str) -> str:
    """The name of a key's part: keys may have folders and any length."""
    return digest(key.encode())
