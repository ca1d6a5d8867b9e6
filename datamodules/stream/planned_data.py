"""What the data modules that read shards share: paths, checks, loaders, and the state from which a run goes on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, TypeVar

from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from datamodules.shards.byte_reader import ByteReader
from datamodules.shards.checks import load_indexes
from datamodules.shards.index import Index, Schemas, joined
from datamodules.stream.changed_content import content_changes, moved
from datamodules.stream.loader import PlanLoader
from datamodules.stream.plan import EvalPlan, ItemCounts, Plan, Positions, TrainPlan
from datamodules.stream.recipe import Recipe
from datamodules.stream.run_place import RunPlace, at_a_step, limited
from datamodules.stream.term_items import item_lines

Split = Literal["train", "val", "predict"]
Paths = str | list[str]
OnBadSample = Literal["raise", "skip"]
StartMethod = Literal["fork", "spawn", "forkserver"]
BatchT = TypeVar("BatchT")
#: Prompt, answers by name -> what is wrong with them.
TextFaults = Callable[[str, Mapping[Any, str]], list[str]]

_SPLITS: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",), "predict": ("predict",)}


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """What a plan needs to know of a split's samples.

    Attributes:
        terms: loss term -> (N,) bool or integers, how many of its items each sample has.
        keep: the positions that are read; None = all.
    """

    terms: Mapping[str, ItemCounts] = field(default_factory=dict)
    keep: Positions | None = None


class PlannedData(LightningDataModule, ABC, Generic[BatchT]):
    """Shards -> batches in the order of a plan. The state in a checkpoint is the number of samples consumed.

    A subclass says what it reads (`schema`), what may be wrong with it (`check`), which samples are taken and what
    they count for (`selection`), and how bytes become batches (`recipe`).

    Args:
        paths: the index file, or several, of each split that the subclass has; None = not given.
        batch_size: samples per rank and micro-batch.
        num_workers: processes per rank that read and decode; 0 = none.
        seed: decides the order of the samples and every other draw.
        window: shards that are shuffled together; more = better mixed, less local reads.
        on_bad_sample: an altered or undecodable sample stops the run, or is skipped (without a loss; denominators are
            from the index and still count it).
        max_bad_samples: how many samples may be skipped before the run stops after all.
        multiprocessing_context: how workers start; None = the platform's default.
        reader: how bytes are fetched; None = the defaults.
        allow_changed: go on from a checkpoint also where the training samples are others than those that it was
            written with, from the same share of the epoch; otherwise that is an error.
    """

    #: What the shards hold; several = any of them.
    schema: ClassVar[Schemas]
    #: The method of a module by which it says what its batches need, and the modules that have it; None = any module.
    required_module_method: ClassVar[tuple[str, str] | None] = None

    def __init__(
        self,
        paths: dict[Split, Paths | None],
        batch_size: int,
        num_workers: int,
        seed: int,
        window: int,
        on_bad_sample: OnBadSample,
        max_bad_samples: int,
        multiprocessing_context: StartMethod | None,
        reader: ByteReader | None,
        allow_changed: bool = False,
    ) -> None:
        super().__init__()
        require_least(batch_size=(batch_size, 1), num_workers=(num_workers, 0), seed=(seed, 0))
        self.paths = paths
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.window = window
        self.on_bad_sample = on_bad_sample
        self.max_bad_samples = max_bad_samples
        self.multiprocessing_context = multiprocessing_context
        self.reader = reader or ByteReader()
        self.allow_changed = allow_changed
        self._indexes: dict[Split, tuple[list[Index], Index]] = {}
        self._loaders: dict[Split, PlanLoader[BatchT]] = {}
        self._resumed: dict[str, Any] = {}
        #: The verb and the module for which `faults` came out empty.
        self._passed: tuple[Any, ...] = ()

    # What a subclass says of itself

    @abstractmethod
    def check(self, split: Split, index: Index) -> None:
        """Before anything is read: raise a ValueError that lists what is wrong with the samples."""

    @abstractmethod
    def selection(self, split: Split) -> Selection:
        """Which samples are read, and what each counts for in the denominators of the method."""

    @abstractmethod
    def recipe(self, split: Split) -> Recipe[BatchT]:
        """How bytes become batches."""

    def identity(self) -> dict[str, Any]:
        """What must not change over a resume besides shards, seed, window and filter, in plain types."""
        return {}

    def origin_of(self, name: str) -> str:
        """What to say behind an entry of `identity`, or of the plan's, that is a hash: what it is of. "" = nothing."""
        return ": the filter lets other samples through (how many, and a hash of which)" if name == "kept" else ""

    # Lightning's hooks

    def setup(self, stage: str) -> None:
        """Read the indexes and check all that they say, before anything is trained.

        Raises:
            ValueError: everything that is wrong with the shards of a split, or a split that this verb needs is absent.
        """
        passed, self._passed = self._passed, ()
        if passed != (stage, self._module) and (faults := self.faults(stage)):
            raise ValueError("\n".join(faults))
        # What an earlier run left behind; Lightning restores a checkpoint's state after this hook.
        self._loaders, self._resumed = {}, {}

    def faults(self, stage: str) -> list[str]:
        """All that the indexes tell of what is wrong, split by split; where nothing is, the next `setup` need not ask.

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
            elif not (stage == TrainerFn.FITTING and split == "val"):
                faults.append(
                    f"data.{split} is not given; name the index file of the shards for `{TrainerFn(stage).value}`"
                )
        self._passed = () if faults else (stage, module)
        return faults

    def splits(self, stage: str) -> tuple[Split, ...]:
        """The splits that a verb reads, if their samples are given."""
        return _SPLITS.get(stage, ())

    def text_faults(self, split: Split, faults_of: TextFaults) -> list[str]:
        """What is wrong with the texts of a split's samples; nothing where training reads none.

        Args:
            split: one whose index is without faults.
            faults_of: what a policy says of one prompt and its answers.
        """
        return []

    def train_dataloader(self) -> PlanLoader[BatchT]:
        """The endless stream of training samples, from where a checkpoint left it."""
        trainer = self.active_trainer
        accumulation = trainer.accumulate_grad_batches
        plan = TrainPlan(**self._plan("train"), seed=self.seed, window=self.window, accumulation=accumulation)
        batches = limited(plan, trainer.limit_train_batches)
        if batches < len(plan) and batches % accumulation and not trainer.fast_dev_run:
            raise ValueError(
                f"trainer.limit_train_batches stops after {batches} batches, within an optimizer step of "
                f"{accumulation} accumulated batches; give a multiple"
            )
        loader = self._loader("train", plan)
        before = self._loaders.get("train")
        if before is not None:
            loader.resume(before.progress())
        elif self._resumed:
            self._go_on(loader)
        self._loaders["train"] = loader
        return loader

    def val_dataloader(self) -> PlanLoader[BatchT] | list[Any]:
        """Every validation sample once; nothing where there are no validation shards."""
        return self._evaluation("val") if self.paths["val"] is not None else []

    def predict_dataloader(self) -> PlanLoader[BatchT]:
        """Every sample once."""
        return self._evaluation("predict")

    def state_dict(self) -> dict[str, Any]:
        """How far the stream of training samples is; empty before training."""
        loader = self._loaders.get("train")
        if loader is None:
            return dict(self._resumed)
        progress = self.active_trainer.fit_loop.epoch_loop.batch_progress.current
        return {
            # 1 in a checkpoint that an exception wrote, else 0: that batch is given again.
            **loader.progress(in_flight=progress.ready - progress.processed),
            "identity": self.identity(),
            "data_sets": self._data_sets(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there when training starts; other shards, seed or window are an error that says so."""
        self._resumed = dict(state_dict)

    def resume_faults(self, state: Mapping[str, Any]) -> list[str]:
        """Why training cannot go on from a saved state (see `state_dict`) with the samples and settings of now."""
        plan = TrainPlan(
            shard_counts=self.index("train").shard_counts,
            batch_size=self.batch_size,
            keep=self.selection("train").keep,
            seed=self.seed,
            window=self.window,
        )
        try:
            changed = bool(self._changes(state))
            now = {**plan.identity(), **self._kept_identity(changed)}
            if changed:
                del now["kept"]
            self._require_same({**state, **state.get("identity", {})}, now)
        except ValueError as error:
            return [str(error)]
        return []

    def resume(self) -> RunPlace | None:
        """Move the stream of training samples to where the restored state says; where that is in the trainer's epochs.

        It is where a run with the settings of now would be after as many samples: epochs that ended early, or were
        counted in other batches (ranks, batch size, accumulation, a limit), neither lengthen nor shorten the run.

        Returns:
            The place; None where no state was restored.
        """
        if not self._resumed:
            return None
        loader = self._loaders.get("train")
        if loader is None:
            loader = self.train_dataloader()
        else:
            self._go_on(loader)  # a sharded model is set up first, and its schedule has asked for the loader
        plan = loader.plan
        assert isinstance(plan, TrainPlan)
        return RunPlace.after(loader.consumed, plan, self.active_trainer.limit_train_batches)

    # What others ask

    def item_lines(self, active: Collection[str]) -> list[str]:
        """The samples and the items of each term in use: a line for each data set of training and validation."""
        lines: list[str] = []
        for split in self.splits(TrainerFn.FITTING):
            given = self.paths.get(split)
            if given is not None:
                parts, selection = self.parts(split), self.selection(split)
                names = [split] if len(parts) == 1 else [f"{split}, {path}" for path in given]
                sizes = {name: len(part) for name, part in zip(names, parts, strict=True)}
                lines += item_lines(sizes, selection.terms, selection.keep, active)
        return lines

    @property
    def _module(self) -> Any:
        """What is run; None where there is no trainer, as when someone only looks at the data."""
        return getattr(self.trainer, "lightning_module", None)

    @property
    def active_trainer(self) -> Any:
        """The trainer."""
        assert self.trainer is not None, "asked by a trainer only"
        return self.trainer

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
    def bad_samples(self) -> dict[str, str]:
        """Key -> why, of all samples skipped so far on this rank."""
        return {key: why for loader in self._loaders.values() for key, why in loader.bad_samples.items()}

    # Parts

    def _read(self, split: Split) -> tuple[list[Index], Index]:
        path = self.paths[split]
        if path is None:
            raise ValueError(f"data.{split} is not given; name the index file of its shards")
        if split not in self._indexes:
            same = [read for other, read in self._indexes.items() if self.paths[other] == path]
            if not same:
                parts = load_indexes(path, self.schema, self.reader)
                same = [(parts, joined(parts))]
            self._indexes[split] = same[0]
        return self._indexes[split]

    def _data_sets(self) -> dict[str, str]:
        """Index file -> fingerprint, of the training samples."""
        given = self.paths["train"]
        paths = [given] if isinstance(given, str) else list(given or ())
        return {str(path): part.fingerprint for path, part in zip(paths, self.parts("train"), strict=True)}

    def _changes(self, state: Mapping[str, Any]) -> str:
        """Which data sets hold other training samples than a saved state is of; "" = none.

        Raises:
            ValueError: some do, and that is not allowed.
        """
        before, now = state["fingerprint"], self.index("train").fingerprint
        if before == now:
            return ""
        changes = "; ".join(content_changes(state.get("data_sets", {}), self._data_sets()))
        if not self.allow_changed:
            raise ValueError(
                f"cannot resume: the content of the training samples has changed: {changes} (fingerprint was "
                f"{before[:12]}, is {now[:12]}). Restore the former shards, go on with these by --data.allow_changed "
                "true, or start a new run: another --trainer.default_root_dir, or --ckpt_path null"
            )
        return changes

    def _go_on(self, loader: PlanLoader[BatchT]) -> None:
        state, plan = at_a_step(self._resumed), loader.plan
        assert isinstance(plan, TrainPlan)
        changes = self._changes(state)
        self._require_same(state.get("identity", {}), self._kept_identity(bool(changes)))
        if changes:
            state, place = moved(state, plan, self.index("train"))
            rank_zero_warn(f"the content of the training samples has changed: {changes}. {place}")
        loader.resume(state)

    def _kept_identity(self, changed: bool) -> dict[str, Any]:
        """What must be as it was; where other samples are allowed, not what is of their files."""
        return {name: value for name, value in self.identity().items() if not (changed and self.origin_of(name))}

    def _require_same(self, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        changed = [
            f"{name} was {before.get(name)!r}, is {now[name]!r}{self.origin_of(name)}"
            for name in now
            if before.get(name) != now[name]
        ]
        if changed:
            raise ValueError(
                f"cannot resume: the samples are not what they were ({'; '.join(changed)}). Restore the former "
                "settings, or start a new run: another --trainer.default_root_dir, or --ckpt_path null"
            )

    def _plan(self, split: Split) -> dict[str, Any]:
        share = self.active_trainer.distributed_sampler_kwargs or {"num_replicas": 1, "rank": 0}
        selection = self.selection(split)
        return {
            "shard_counts": self.index(split).shard_counts,
            "batch_size": self.batch_size,
            "keep": selection.keep,
            "rank": share["rank"],
            "world": share["num_replicas"],
            "terms": selection.terms,
        }

    def _evaluation(self, split: Split) -> PlanLoader[BatchT]:
        self._loaders[split] = self._loader(split, EvalPlan(**self._plan(split)))
        return self._loaders[split]

    def _loader(self, split: Split, plan: Plan) -> PlanLoader[BatchT]:
        return PlanLoader(
            plan=plan,
            index=self.index(split),
            recipe=self.recipe(split),
            num_workers=self.num_workers,
            multiprocessing_context=self.multiprocessing_context,
            on_bad_sample=self.on_bad_sample,
            max_bad_samples=self.max_bad_samples,
            pin_memory=self.active_trainer.strategy.root_device.type == "cuda",
            reader=self.reader,
        )


def require_least(**settings: tuple[int, int]) -> None:
    """Refuse settings below their least value: name -> (value, least)."""
    for name, (value, least) in settings.items():
        if value < least:
            raise ValueError(f"data.{name} is {value}; give {least} or more")
