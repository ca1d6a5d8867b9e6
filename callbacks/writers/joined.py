"""Base of the writers whose samples are kept in parts while a run lasts, and joined in the source's order."""

from __future__ import annotations

import contextlib
import json
import shlex
from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from callbacks.writers.base import PARTIAL, PredictWriter, refuse_other_settings, write_unnoticed
from callbacks.writers.part_records import RECORD, PartRecord, finished_records, missing_parts, source_digest
from callbacks.writers.parts import PART_FILE, PartLines, PartShard
from datamodules.shards.output_lock import OutputLock
from datamodules.stream.predict_outputs import SkippableData

_SETTINGS = "settings.json"


class JoinedWriter(PredictWriter):
    """Base of the writers of one result: each process appends to files of its own in ``OUTPUT.parts``, see `parts`.

    When all samples are there rank 0 joins them and removes the parts. Of a run with ``--part`` the parts stay, with a
    record that it is finished, until ``vidpref prepare join OUTPUT`` joins those of all.

    Args:
        output: the result, or the folder and common name of its files.
    """

    def __init__(self, output: str) -> None:
        self.output = Path(output)
        self.parts = Path(f"{output}.parts")
        self._file: PartLines | PartShard | None = None

    @property
    def locked(self) -> tuple[Path, bool]:
        """The output."""
        return self.output, False

    # Defined by each writer

    @property
    @abstractmethod
    def is_finished(self) -> bool:
        """Whether the joined result is there."""

    @abstractmethod
    def check_finished(self, data: SkippableData) -> None:
        """Refuse a result of other settings.

        Raises:
            ValueError: says what differs.
        """

    @abstractmethod
    def outputs_in_the_way(self) -> list[Path]:
        """Files under the output's names, which no run of this writer made as far as its parts say."""

    @abstractmethod
    def described_settings(self) -> Mapping[str, Any]:
        """What is written beside the parts, and compared."""

    @abstractmethod
    def take_settings(self, settings: Mapping[str, Any]) -> None:
        """Go on with the settings that are beside the parts."""

    @abstractmethod
    def written(self) -> Collection[str]:
        """The keys of the whole samples among the parts."""

    @abstractmethod
    def join(self, keys: Sequence[str], skipped: Collection[str]) -> None:
        """Make the result of the parts.

        Args:
            keys: in the order of the result.
            skipped: keys of samples that could not be read.
        """

    @abstractmethod
    def part_file(self) -> PartLines | PartShard:
        """A new file among the parts, of this process alone."""

    def joined_files(self) -> list[Path]:
        """What a join keeps among the parts while it lasts."""
        return []

    def clear_join(self) -> None:
        """Remove what a killed join left."""

    def report_result(self, data: SkippableData | None) -> None:
        """Say what the result is, after each run.

        Args:
            data: where the samples came from; None = from parts that others made.

        Raises:
            ValueError: there is none.
        """

    # What `PredictWriter` asks for

    def append(self, sample: Any) -> None:
        """Add what this process's file holds of a sample; the file is made with the first one."""
        if self._file is None:
            self._file = self.part_file()
        self._file.append(sample)

    def close(self) -> None:
        """Close this process's file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def begin(self, data: SkippableData) -> None:
        """Make the folder of parts, and clear what a kill left half-written."""
        if self.is_finished or self.in_the_way():
            return
        self.parts.mkdir(parents=True, exist_ok=True)
        if not self._settings().exists():
            write_unnoticed(self._settings(), json.dumps(self.described_settings(), indent=2).encode())
        if self.part is None:  # else it may be another part's, which is about to get its name
            for leftover in [*self.parts.iterdir(), *self.output.parent.iterdir()]:
                if PARTIAL.fullmatch(leftover.name):
                    leftover.unlink()
            self.clear_join()

    def check(self, data: SkippableData) -> None:
        """Refuse parts or a result of other settings, and files of others under the output's names.

        Raises:
            ValueError: says what differs and how to go on.
        """
        if self.is_finished:
            self.check_finished(data)
            return
        self.refuse_in_the_way()
        former = json.loads(self._settings().read_text(encoding="utf-8"))
        remedy = "take those settings again to continue it, or delete that folder to begin again"
        refuse_other_settings(self.parts, former, self.described_settings(), remedy)
        self.take_settings(former)

    def refuse_in_the_way(self) -> None:
        """Refuse files of others under the output's names.

        Raises:
            ValueError: names them.
        """
        if paths := self.in_the_way():
            names = ", ".join(str(path.relative_to(self.output.parent)) for path in paths[:3])
            raise ValueError(f"{self.output.parent}: {names} lie in the way; choose another `output`, or delete them")

    def finished(self, data: SkippableData) -> list[str]:
        """The samples in the result, or those that are whole among the parts."""
        if self.is_finished:
            return list(data.keys)
        written = set(self.written())
        return [key for key in data.keys if key in written]

    def finish(self, data: SkippableData, skipped: Collection[str]) -> None:
        """Join the samples in the source's order, say what came of them, and remove the parts.

        Raises:
            ValueError: nothing was made.
        """
        if not self.is_finished:
            self.join(self.finished(data), skipped)
        self.report_result(data)
        self._remove_parts()

    def finish_part(self, data: SkippableData, skipped: Collection[str]) -> None:
        """Record that this part is finished, and say which others are not.

        Raises:
            ValueError: a sample is neither there nor skipped.
        """
        assert self.part is not None, "asked of a part"
        if self.is_finished:
            return
        mine = list(self.part.of(data.keys))
        present = {*self.written(), *skipped}
        if lacking := [key for key in mine if key not in present]:
            raise ValueError(
                f"{self.parts}: part {self.part} is not finished, {len(lacking)} of {len(mine)} {self.noun} are not "
                f"there, the first is {lacking[0]!r}; the same command makes them"
            )
        # Rows that the data module refuses as a whole are in no part, and in the records of all.
        elsewhere = set(data.keys).difference(mine)
        left_out = sorted(set(skipped) - elsewhere)
        source = source_digest(self.described_settings(), data.keys, self.join_options())
        record = PartRecord(source, mine, left_out, self.join_options())
        write_unnoticed(self.parts / record.name(self.part), record.dumps())
        if missing := missing_parts(self.parts, self.part.count):
            rank_zero_info(f"part {self.part} is finished, not yet: {', '.join(missing)}")
        else:
            command = f"vidpref prepare join {shlex.quote(str(self.output))}"
            rank_zero_info(f"all {self.part.count} parts are finished; `{command}` joins them")

    def join_options(self) -> dict[str, Any]:
        """The writer's options that decide how the result is split into files."""
        return {}

    def join_parts(self) -> None:
        """Make the result of the parts that runs with ``--part`` have finished; without a trainer or a model.

        Raises:
            ValueError: a part is missing or of other settings, its samples are not there; files of others.
            LockedError: a run is writing the same.
        """
        with OutputLock(self.output):
            if fault := self.others_fault():
                raise ValueError(fault)
            if not self.is_finished:
                self.refuse_in_the_way()
                records = finished_records(self.parts, self.output)
                self.take_settings(json.loads(self._settings().read_text(encoding="utf-8")))
                self.take_join_options(records[0].options)
                written = set(self.written())
                skipped = {key for record in records for key in record.skipped} - written
                for number, record in enumerate(records, 1):
                    if lacking := [key for key in record.keys if key not in written and key not in skipped]:
                        raise ValueError(
                            f"{self.parts}: part {number}/{len(records)} was finished, but {len(lacking)} of its "
                            f"{self.noun} are not here, the first is {lacking[0]!r}; bring all files of its machine "
                            "here, or run it again"
                        )
                self.clear_join()
                self.join([key for record in records for key in record.keys if key in written], skipped)
            self.report_result(None)
            self._remove_parts()
        print(f"{self.noun}: {self.place}")

    def take_join_options(self, options: Mapping[str, Any]) -> None:
        """Join as the runs of the parts would have."""

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close this process's files, and let other commands write there."""
        self.close()
        super().teardown(trainer, pl_module, stage)

    # Parts

    def in_the_way(self) -> list[Path]:
        """Files under the output's names that no run of this writer made: they are neither used nor removed."""
        ours = self._settings().exists()
        others: Iterable[Path] = [] if ours or not self.parts.is_dir() else self.parts.iterdir()
        # Another part may write its settings at this moment.
        return self.outputs_in_the_way() + sorted(path for path in others if not PARTIAL.fullmatch(path.name))

    def begun(self) -> bool:
        """Whether there are parts of this writer."""
        return self._settings().exists()

    def _remove_parts(self) -> None:
        if not self.parts.is_dir():
            return
        forms = (PART_FILE, PARTIAL, RECORD)
        own = [path for path in self.parts.iterdir() if any(form.fullmatch(path.name) for form in forms)]
        # The settings last: they say whose the others are.
        for path in [*own, *self.joined_files(), self._settings()]:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.parts.rmdir()
        if self.parts.is_dir():
            names = ", ".join(sorted(path.name for path in self.parts.iterdir())[:3])
            rank_zero_warn(f"{self.parts} is left where it is: {names} in it were not written by this run")

    def _settings(self) -> Path:
        return self.parts / _SETTINGS
