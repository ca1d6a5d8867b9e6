"""Base of the writers of predicted samples: an interrupted run is continued, and no sample is made twice."""

from __future__ import annotations

import re
import uuid
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from callbacks.bad_samples import skipped_samples
from datamodules.prepare.parts import Part
from datamodules.shards.files import write_whole
from datamodules.shards.output_lock import LockedError, OutputLock
from datamodules.stream.predict_outputs import SkippableData, differences, plain
from lightning_modules.file_contents import warn_uncompared

#: What `write_unnoticed` calls a file that is not whole yet.
PARTIAL = re.compile(r"\.[0-9a-f]{32}\.tmp")


class PredictWriter(Callback, ABC):
    """Callback that writes each sample when it is made, and has the data module skip those that are there already.

    The same command again continues an interrupted run, with any number of ranks; one whose settings differ is refused.
    The module says what its samples depend on (`made_from`), the data module is a `SkippableData`. All ranks must see
    the same folder.
    """

    #: What was made, for messages.
    noun = "samples"
    #: What the samples are made from, since `setup`.
    settings: Mapping[str, Any]
    #: The part of the samples that this run makes; None = all of them. The command line sets it from ``--part``.
    part: Part | None = None
    #: Rank 0's, so that no other command writes there meanwhile.
    _lock: OutputLock | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Read what an earlier run has written, after the data module's own set-up and before weights are loaded.

        Raises:
            ValueError: the earlier run had other settings.
            OSError: the folder cannot be prepared.
        """
        if stage != "predict":
            return
        # Lightning would keep every prediction in memory until the end.
        trainer.predict_loop.return_predictions = False
        data: SkippableData = trainer.datamodule  # type: ignore[attr-defined]
        self.settings = self._settings_by_rank_0(trainer, pl_module)
        # All ranks stop with the one message: a rank that waits for another that is gone fails with torch's own.
        if fault := trainer.strategy.broadcast(self._begin_fault(data) if trainer.is_global_zero else ""):
            raise OSError(fault)
        self.check(data)
        finished = trainer.strategy.broadcast(sorted(self.finished(data)) if trainer.is_global_zero else [])
        mine = data.keys if self.part is None else self.part.of(data.keys)
        done = set(finished).intersection(mine)
        data.skip(finished if self.part is None else {*finished, *set(data.keys).difference(mine)})
        if done:
            rank_zero_info(f"{self.place}: {len(done)} of {len(mine)} {self.noun} are there already")
        if len(done) == len(mine):
            # No loader is made, so the hooks of the loop are not called either.
            trainer.limit_predict_batches = 0
            self._end(trainer)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the batch's samples."""
        for sample in self.samples(outputs, batch):
            self.write(sample)

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finish what all ranks have written."""
        self._end(trainer)

    def _settings_by_rank_0(self, trainer: Trainer, module: LightningModule) -> Mapping[str, Any]:
        """`made_from`, by rank 0 for all: it may read all weights to see whether they are the same."""
        settings, fault = {}, ""
        if trainer.is_global_zero:
            try:
                settings = plain(self.made_from(trainer, module))
            except (ValueError, OSError) as error:  # raised below on all ranks, of which the others wait there
                fault = str(error)
        settings, fault = trainer.strategy.broadcast((settings, fault))
        if fault:
            raise ValueError(fault)
        return settings

    def _begin_fault(self, data: SkippableData) -> str:
        """Lock and prepare the folder; why that cannot be done, "" where it is done."""
        try:
            place, is_folder = self.locked
            self._lock = OutputLock(place, is_folder) if self.part is None else self._part_lock(str(self.part))
            self._lock.acquire()
            if fault := self.others_fault():
                return fault
            self.begin(data)
        except LockedError as error:
            return str(error)
        except OSError as error:
            return f"{self.place} cannot be prepared: {error}"
        return ""

    def _part_lock(self, part: str) -> OutputLock:
        place, is_folder = self.locked
        return OutputLock(Part.parsed(part).prefix(place / "videos" if is_folder else place))

    def others_fault(self) -> str:
        """Who else writes the output: the runs of parts, or of a part the run of all; "" = nobody.

        A lock that a killed run has left is removed, as `OutputLock` does.
        """
        place, is_folder = self.locked
        others = []
        if self.part is None:
            name = re.escape("videos" if is_folder else place.name)
            folder = place if is_folder else place.parent
            form = re.compile(rf"\.{name}\.part(\d+)of(\d+)\.lock", re.ASCII)
            names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
            others = [self._part_lock(f"{match[1]}/{match[2]}") for name in names if (match := form.fullmatch(name))]
        elif (whole := OutputLock(place, is_folder)).path.exists():
            others = [whole]
        try:
            for lock in others:
                lock.acquire()
                lock.release()
        except LockedError as error:
            return str(error)
        return ""

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let other commands write there."""
        if self._lock is not None:
            self._lock.release()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let other commands write there; Lightning tears nothing down after an error."""
        self.teardown(trainer, pl_module, "predict")

    def _end(self, trainer: Trainer) -> None:
        # A collective, so it comes first on every rank.
        skipped = skipped_samples(trainer)
        self.close()
        trainer.strategy.barrier(f"{self.noun}: written")
        if trainer.is_global_zero:
            finish = self.finish if self.part is None else self.finish_part
            finish(trainer.datamodule, skipped)  # type: ignore[attr-defined]
        trainer.strategy.barrier(f"{self.noun}: finished")
        rank_zero_info(f"{self.noun}: {self.place}")

    # Left to the module by most writers

    def made_from(self, trainer: Trainer, module: Any) -> Mapping[str, Any]:
        """What the samples depend on: a run is continued only with the same."""
        made_from: Mapping[str, Any] = module.made_from(trainer)
        return made_from

    def close(self) -> None:
        """Close this process's files; called before rank 0 reads those of all."""

    def samples(self, outputs: Any, batch: Any) -> Iterable[Any]:
        """The samples in what `predict_step` returned for a batch."""
        samples: Iterable[Any] = outputs
        return samples

    # Defined by each writer

    @property
    @abstractmethod
    def place(self) -> Path:
        """Where the result is, for messages."""

    @property
    @abstractmethod
    def locked(self) -> tuple[Path, bool]:
        """What `OutputLock` locks: a folder (True), or the folder and common name of shards (False)."""

    @abstractmethod
    def begin(self, data: SkippableData) -> None:
        """Prepare the folder; called on rank 0 alone; it refuses nothing that was made otherwise."""

    @abstractmethod
    def check(self, data: SkippableData) -> None:
        """Refuse what was made otherwise; called on all ranks, so that all stop."""

    @abstractmethod
    def finished(self, data: SkippableData) -> Collection[str]:
        """The keys of the samples that are there."""

    @abstractmethod
    def write(self, sample: Any) -> None:
        """Write one sample, whole or not at all; called on the rank that made it."""

    @abstractmethod
    def finish(self, data: SkippableData, skipped: Collection[str]) -> None:
        """Make the result of what is there; called on rank 0 when all ranks are through.

        Args:
            data: where the samples came from.
            skipped: the keys of those that could not be read (`on_bad_sample: skip`).
        """

    @abstractmethod
    def finish_part(self, data: SkippableData, skipped: Collection[str]) -> None:
        """Note that a part is finished; in place of `finish`, with the same arguments."""


def write_unnoticed(path: Path, content: bytes) -> None:
    """Write a file as a whole, until then under a name of 32 digits: `path`'s own may have all the length there is."""
    write_whole(path, content, f".{uuid.uuid4().hex}.tmp")


def refuse_other_settings(place: Path, before: Mapping[str, Any], now: Mapping[str, Any], remedy: str) -> None:
    """Refuse other settings in one error that lists the differences, and warn of what cannot be compared.

    Raises:
        ValueError: there is a difference.
    """
    if faults := differences(before, now):
        raise ValueError(f"{place} was made with other settings: {'; '.join(faults)}; {remedy}")
    warn_uncompared(place, before, now)
