"""Reference scores that a run keeps as it makes them, so that each sample is scored once however many epochs there are.

They are side shards as `cache_writer` writes, a few files for each rank and epoch; their folder is named by what the
scores depend on, so that other views or another policy never meet them. Files are written whole under names of their
own: ranks, runs and starts may add to one folder at the same time.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from callbacks.rank_flags import RankFlags
from callbacks.reference.cache import SCHEMA, SUFFIX, StoredScores, packed, refuse_resampling, unpacked
from callbacks.reference.cache_writer import scored_from
from callbacks.reference.cached_source import refuse_flow
from callbacks.reference.live_sources import AdapterSource
from callbacks.reference.sources import ReferenceSource, ReferenceSplit
from datamodules.schemas import write_shards
from datamodules.shards.index import Index, digest
from datamodules.shards.sample_reader import SampleReader
from datamodules.stream.predict_outputs import plain
from datamodules.vista.batches import VistaBatch
from datamodules.vista.samples import AnswerScores
from lightning_modules.answer_module import AnswerModule
from lightning_modules.losses.log_probs import Head
from lightning_modules.preference import PreferenceModule

_INDEX = ".index.json"


@dataclass(frozen=True, slots=True)
class _Kept:
    """A sample's scores: its answers for the index, and where its member is."""

    answers: Mapping[str, tuple[float, int]]
    #: The member itself, until it is written; then None.
    content: bytes | None
    part: SampleReader | None = None
    position: int = 0


class RememberedScores(StoredScores):
    """Scores of one split, in memory until there are enough for a shard, or until `write`.

    Args:
        folder: of the side shards.
        made_from: what the scores depend on, for the shards' indexes.
        samples_per_shard: how many are written together; as many are scored again after a kill.
    """

    remedy = "delete that folder to score its samples again"

    def __init__(self, folder: Path, made_from: Mapping[str, Any], samples_per_shard: int = 64) -> None:
        self.path = str(folder)
        self.folder = folder
        self.made_from = made_from
        self.samples_per_shard = samples_per_shard
        self._kept: dict[str, _Kept] = {}
        self._unwritten: dict[str, tuple[bytes, dict[str, Any]]] = {}
        self._parts: set[str] = set()

    @property
    def keys(self) -> set[str]:
        """Of the samples that are there."""
        return set(self._kept)

    def holds(self, batch: VistaBatch) -> bool:
        """Whether all real samples of a batch are there; of padding alone, whether anything is."""
        lacks = any(real and key not in self._kept for key, real in zip(batch.keys, batch.real, strict=True))
        return bool(self._kept) and not lacks

    def add(self, batch: VistaBatch, scores: AnswerScores) -> None:
        """Keep the scores of those samples of a batch that are not there yet."""
        for sample, key in enumerate(batch.keys):
            if batch.real[sample] and key not in self._kept:
                content, facts = packed(batch, sample, scores)
                self._kept[key] = _Kept(facts["answers"], content)
                self._unwritten[key] = (content, facts)
        if len(self._unwritten) >= self.samples_per_shard:
            self.write()

    def write(self) -> None:
        """Write what is in memory only."""
        if not self._unwritten:
            return
        output, unwritten = self.folder / uuid.uuid4().hex, self._unwritten
        write_shards(
            [(key, {SUFFIX: content}) for key, (content, _) in unwritten.items()],
            output,
            SCHEMA,
            facts_of=lambda key, *_: unwritten[key][1],
            samples_per_shard=len(unwritten),
            made_from=self.made_from,
        )
        self._unwritten = {}
        self._read_part(Path(f"{output}{_INDEX}"), again=True)

    def read(self) -> None:
        """Take over what other ranks, runs or starts have written since the last time."""
        for path in sorted(self.folder.glob(f"*{_INDEX}")):
            if path.name not in self._parts:
                self._read_part(path)

    def _read_part(self, path: Path, again: bool = False) -> None:
        """Take over a part; `again` = also samples that are there, whose members leave the memory for it."""
        self._parts.add(path.name)
        index = Index.read(path, SCHEMA)
        reader = SampleReader(index)
        for position, entry in enumerate(index.entries):
            if again or entry.key not in self._kept:
                self._kept[entry.key] = _Kept(entry.facts["answers"], None, reader, position)

    def answers_of(self, key: str) -> Mapping[str, tuple[float, int]]:
        """From memory."""
        return self._kept[key].answers if key in self._kept else {}

    def tensors_of(self, key: str) -> dict[str, Tensor]:
        """From memory, or the side shards."""
        kept = self._kept[key]
        if kept.content is not None:
            return unpacked(kept.content)
        assert kept.part is not None
        return unpacked(kept.part.read(kept.position, [SUFFIX])[SUFFIX])

    def blank(self) -> Tensor:
        """(0, D) in the type of the hidden states."""
        return self.tensors_of(next(iter(self._kept)))["hidden"][:0]


class RememberedSource(ReferenceSource):
    """Scores of the policy with its adapters off, of each sample once; afterwards those that were kept.

    Args:
        folder: of the side shards; None = ``reference_scores`` in the run's root folder.
    """

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder
        self._live = AdapterSource(mode="remember")
        self._stores: dict[ReferenceSplit, RememberedScores] = {}
        self._flags: RankFlags | None = None

    @property
    def live(self) -> ReferenceSource:
        """The policy with its adapters off."""
        return self._live

    def setup(self, trainer: Trainer, module: PreferenceModule) -> None:
        """Refuse a method or data whose scores do not repeat, before weights are loaded.

        Raises:
            ValueError: it is a flow model's, or negatives are drawn again in every epoch.
        """
        refuse_flow(module, "remember")
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if hasattr(data, "resample_each_epoch"):  # not that of a benchmark, which `test` runs on
            refuse_resampling(data)

    def prepare(self, trainer: Trainer, module: PreferenceModule, split: ReferenceSplit) -> None:
        """Read what is there of a split.

        Raises:
            ValueError: more trains than adapters.
        """
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        self._live.prepare(trainer, module, split)
        refuse_resampling(data)
        # The check before a run prepares, too, on rank 0 while there are no others yet.
        connected = trainer.world_size == 1 or dist.is_initialized()
        if split in self._stores or data.paths[split] is None or not connected:
            return
        # The ranks of a sharded model make each forward together; others are at samples of their own.
        if isinstance(trainer.strategy, ModelParallelStrategy) and self._flags is None:
            self._flags = RankFlags(trainer)
        # By rank 0 for all: it reads every file of the model.
        made_from = plain(scored_from(data, module, split)) if trainer.is_global_zero else {}
        made_from = trainer.strategy.broadcast({**made_from, "precision": str(trainer.precision)})
        root = Path(self.folder or Path(trainer.default_root_dir) / "reference_scores")
        name = digest(json.dumps(made_from, sort_keys=True).encode())
        store = RememberedScores(root / f"{split}-{name}", made_from)
        store.read()
        self._stores[split] = store
        keys = set(data.index(split).positions)
        rank_zero_info(f"reference scores: {len(keys & store.keys)} of {len(keys)} {split} samples are in {store.path}")

    @property
    def reader(self) -> ReferenceSource:
        """The kept scores as a source that makes none."""
        return _Reader(self)

    def stores(self, batch: VistaBatch, split: ReferenceSplit) -> bool:
        """Whether a batch would be read."""
        return self._stores[split].holds(batch)

    def scores(
        self, module: PreferenceModule, batch: VistaBatch, split: ReferenceSplit
    ) -> tuple[AnswerScores, Head | None]:
        """The kept scores; where one of the batch is missing, after a forward that makes it."""
        lacks = not self.stores(batch, split)
        if self._flags.any(lacks) if self._flags is not None else lacks:
            scores, head = self._live.scores(module, batch, split)
            self._stores[split].add(batch, scores)
            if not self.stores(batch, split):
                return scores, head  # padding alone, before anything was kept
        return self.read(module, batch, split)

    def read(
        self, module: PreferenceModule, batch: VistaBatch, split: ReferenceSplit
    ) -> tuple[AnswerScores, Head | None]:
        """The kept scores. Logits follow from hidden states: no output head trains that adapters do not take out."""
        assert isinstance(module, AnswerModule)
        if not module.kept_hidden():
            return self._stores[split].scores(batch), None
        return self._stores[split].scores(batch, module.encoded(batch).hidden_answer), None

    def keep(self) -> None:
        """Write what is in memory only."""
        for store in self._stores.values():
            store.write()

    def share(self, trainer: Trainer) -> None:
        """Take over what the other ranks have kept: the next epoch deals the samples to other ranks."""
        self.keep()
        trainer.strategy.barrier("reference scores: kept")
        for store in self._stores.values():
            store.read()


class _Reader(ReferenceSource):
    def __init__(self, source: RememberedSource) -> None:
        self.source = source

    def scores(self, module: PreferenceModule, batch: Any, split: ReferenceSplit) -> tuple[Any, Head | None]:
        """Those that were kept."""
        return self.source.read(module, batch, split)
