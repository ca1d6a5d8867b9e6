"""Base of the data modules that read shards: which splits a verb reads, their indexes, and what is wrong with them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn

from datamodules.shards.byte_reader import ByteReader
from datamodules.shards.checks import load_indexes
from datamodules.shards.index import Index, Schemas
from datamodules.shards.joined_index import joined

Split = Literal["train", "val", "predict"]
Paths = str | list[str]

_SPLITS: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",), "predict": ("predict",)}


class IndexedData(LightningDataModule, ABC):
    """Data module whose samples are listed in index files, which are checked before anything is trained.

    A subclass says what it reads (`schema`) and what may be wrong with it (`check`).

    Args:
        paths: the index file, or several, of each split that the subclass has; None = not given.
        reader: how bytes are fetched; None = the defaults.
    """

    #: What the shards hold; several = any of them.
    schema: ClassVar[Schemas]
    #: The method of a module by which it says what its batches need, and the modules that have it; None = any module.
    required_module_method: ClassVar[tuple[str, str] | None] = None

    def __init__(self, paths: dict[Split, Paths | None], reader: ByteReader | None = None) -> None:
        super().__init__()
        self.paths = paths
        self.reader = reader or ByteReader()
        #: By index files, which several splits may share: the index of each, and of all as one.
        self._indexes: dict[tuple[str, ...], tuple[list[Index], Index]] = {}
        #: The verb and the module for which `faults` came out empty.
        self._passed: tuple[Any, ...] = ()

    @abstractmethod
    def check(self, split: Split, index: Index) -> None:
        """Before anything is read: raise a ValueError that lists what is wrong with the samples."""

    def setup(self, stage: str) -> None:
        """Read the indexes and check all that they say, before anything is trained.

        Raises:
            ValueError: everything that is wrong with the shards of a split, or a split that this verb needs is absent.
        """
        # Only once: the next `setup` may be of another run, whose files are others by then.
        passed, self._passed = self._passed, ()
        if passed != (stage, self._module) and (faults := self.faults(stage)):
            raise ValueError("\n".join(faults))

    def faults(self, stage: str) -> list[str]:
        """All that is wrong by the indexes, split by split; where nothing is, the next `setup` does not check again.

        Args:
            stage: the verb.
        """
        module = self._module
        if self.required_module_method is not None and not hasattr(module, self.required_module_method[0]):
            return [
                f"{type(self).__name__} has samples for {self.required_module_method[1]}, not for "
                f"{type(module).__name__}; choose another --data, or another --model"
            ]
        faults: list[str] = []
        for split in self.splits(stage):
            if split not in self.paths:
                faults.append(f"{type(self).__name__} has no samples for `{stage}`; choose another data module")
            elif self.paths[split] is not None:
                try:
                    self.check(split, self.index(split))
                except ValueError as error:
                    faults.append(str(error))
            # To train without validation is allowed.
            elif not (stage == TrainerFn.FITTING and split == "val"):
                faults.append(
                    f"data.{split} is not given; name the index file of the shards for `{TrainerFn(stage).value}`"
                )
        self._passed = () if faults else (stage, module)
        return faults

    def splits(self, stage: str) -> tuple[Split, ...]:
        """The splits that a verb reads, if their samples are given."""
        return _SPLITS.get(stage, ())

    def index(self, split: Split) -> Index:
        """The index of a split, read once; several index files are one.

        Raises:
            ValueError: the split has no index file, it cannot be read, shards are missing or of another size.
        """
        return self._read(split)[1]

    def parts(self, split: Split) -> list[Index]:
        """The index files of a split one by one, in the order of `index`."""
        return self._read(split)[0]

    @property
    def _module(self) -> Any:
        """What is run; None where there is no trainer, as when someone only looks at the data."""
        return getattr(self.trainer, "lightning_module", None)

    @property
    def active_trainer(self) -> Any:
        """The trainer."""
        assert self.trainer is not None, "asked by a trainer only"
        return self.trainer

    def _read(self, split: Split) -> tuple[list[Index], Index]:
        paths = self.paths[split]
        if paths is None:
            raise ValueError(f"data.{split} is not given; name the index file of its shards")
        files = tuple(paths) if isinstance(paths, list) else (paths,)
        if files not in self._indexes:
            parts = load_indexes(paths, self.schema, self.reader)
            self._indexes[files] = parts, joined(parts)
        return self._indexes[files]
