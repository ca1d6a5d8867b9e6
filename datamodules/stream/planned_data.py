"""Base of the data modules that read shards in the order of a plan: loaders, and the state that a run goes on from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn

from datamodules.shards.byte_reader import ByteReader
from datamodules.stream.indexed_data import IndexedData, Paths, Split
from datamodules.stream.loader import PlanLoader
from datamodules.stream.plan import EvalPlan, ItemCounts, Plan, Positions, TrainPlan
from datamodules.stream.ranks import rank_of
from datamodules.stream.recipe import Recipe
from datamodules.stream.run_place import RunPlace, limited
from datamodules.stream.term_items import item_lines
from datamodules.stream.training_content import TrainingContent

OnBadSample = Literal["raise", "skip"]
StartMethod = Literal["fork", "spawn", "forkserver"]
#: Prompt, answers by name, (frames, height, width) of the video that is shown with them, earlier questions and answers
#: -> what is wrong with them.
TextFaults = Callable[[str, Mapping[Any, str], tuple[int, int, int], Sequence[tuple[str, str]]], list[str]]
BatchT = TypeVar("BatchT")


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """What a plan needs to know of a split's samples.

    Attributes:
        terms: loss term -> (N,) bool or integers, how many of its items each sample has.
        keep: the positions that are read; None = all.
    """

    terms: Mapping[str, ItemCounts] = field(default_factory=dict)
    keep: Positions | None = None


class PlannedData(IndexedData, Generic[BatchT]):
    """Shards -> batches in the order of a plan. The state in a checkpoint is the number of samples consumed.

    A subclass says what it reads (`schema`), what may be wrong with it (`check`), which samples are taken and what
    they count for (`selection`), and how bytes become batches (`recipe`). Its constructor names only the options that
    it adds or sets, and passes on the others as ``**options``: the command line finds them, and what they mean, here.

    Args:
        paths: the index file, or several, of each split that the subclass has; None = not given.
        batch_size: samples per rank and micro-batch.
        num_workers: processes per rank that read and decode; 0 = none.
        seed: decides the order of the samples and every other draw.
        window: shards that are shuffled together; more = better mixed, less local reads.
        on_bad_sample: an altered or undecodable sample stops the run, or is skipped (without a loss; denominators are
            from the index and still count it).
        max_bad_samples: how many samples may be skipped before the run stops after all.
        multiprocessing_context: "fork", "spawn" or "forkserver" for the workers; None = the platform's default.
        reader: how bytes are fetched (attempts, backoff, timeout); None = the defaults.
        allow_changed: go on from a checkpoint also where the training samples are others than those it was written with
            (some removed, added or replaced), from the same share of the epoch.
    """

    def __init__(
        self,
        paths: dict[Split, Paths | None],
        batch_size: int = 1,
        num_workers: int = 0,
        seed: int = 0,
        window: int = 16,
        on_bad_sample: OnBadSample = "raise",
        max_bad_samples: int = 10,
        multiprocessing_context: StartMethod | None = None,
        reader: ByteReader | None = None,
        allow_changed: bool = False,
    ) -> None:
        super().__init__(paths, reader)
        require_least(batch_size=(batch_size, 1), num_workers=(num_workers, 0), seed=(seed, 0))
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.window = window
        self.on_bad_sample = on_bad_sample
        self.max_bad_samples = max_bad_samples
        self.multiprocessing_context = multiprocessing_context
        self.allow_changed = allow_changed
        self._loaders: dict[Split, PlanLoader[BatchT]] = {}
        self._resumed: dict[str, Any] = {}

    # What a subclass says of itself

    @abstractmethod
    def selection(self, split: Split) -> Selection:
        """Which samples are read, and what each counts for in the denominators of the method."""

    @abstractmethod
    def recipe(self, split: Split) -> Recipe[BatchT]:
        """How bytes become batches."""

    def text_faults(self, split: Split, faults_of: TextFaults) -> list[str]:
        """What is wrong with the texts of a split's samples; nothing where training reads none.

        Args:
            split: one whose index is without faults.
            faults_of: what a policy says of one prompt and its answers.
        """
        return []

    def identity(self) -> dict[str, Any]:
        """What must not change over a resume besides shards, seed, window and filter, in plain types."""
        return {}

    def origin_of(self, name: str) -> str:
        """What to say behind an entry of `identity`, or of the plan's, that is a hash: what it is of. "" = nothing."""
        return ": the filter lets other samples through (how many, and a hash of which)" if name == "kept" else ""

    # Lightning's hooks

    def setup(self, stage: str) -> None:
        """As `IndexedData.setup`; what an earlier run of this data module read and restored is forgotten."""
        super().setup(stage)
        # Lightning restores a checkpoint's state after this hook.
        self._loaders, self._resumed = {}, {}

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
        if before is not None:  # Lightning asks again in the same run, which goes on where it is
            loader.resume(before.progress())
        elif self._resumed:
            self._restore(loader)
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
        content = self._content()
        progress = self.active_trainer.fit_loop.epoch_loop.batch_progress.current
        return {
            # 1 in a checkpoint that an exception wrote, else 0: that batch is given again.
            **loader.progress(in_flight=progress.ready - progress.processed),
            "identity": dict(content.identity),
            "data_sets": dict(content.data_sets),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there when training starts; other shards, seed or window are an error that says so."""
        # Only kept: Lightning restores the state before it asks for the loader.
        self._resumed = dict(state_dict)

    def resume_faults(self, state: Mapping[str, Any]) -> list[str]:
        """Why training cannot go on from a saved state (see `state_dict`) with the samples and settings of now."""
        # Not `_plan`: this is asked before there is a trainer with ranks, and the order does not depend on them.
        plan = TrainPlan(
            shard_counts=self.index("train").shard_counts,
            batch_size=self.batch_size,
            keep=self.selection("train").keep,
            seed=self.seed,
            window=self.window,
        )
        return self._content().faults(state, plan)

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
            self._restore(loader)  # a sharded model is set up first, and its schedule has asked for the loader
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
    def bad_samples(self) -> dict[str, str]:
        """Key -> why, of all samples skipped so far on this rank."""
        return {key: why for loader in self._loaders.values() for key, why in loader.bad_samples.items()}

    # Parts

    def _content(self) -> TrainingContent:
        given = self.paths["train"]
        files = [given] if isinstance(given, str) else list(given or ())
        fingerprints = [part.fingerprint for part in self.parts("train")]
        return TrainingContent(
            index=self.index("train"),
            data_sets=dict(zip(map(str, files), fingerprints, strict=True)),
            identity=self.identity(),
            origin_of=self.origin_of,
            allow_changed=self.allow_changed,
        )

    def _restore(self, loader: PlanLoader[BatchT]) -> None:
        """Move a new loader to where the restored state says."""
        assert isinstance(loader.plan, TrainPlan)
        state, warning = self._content().adapted(self._resumed, loader.plan)
        if warning:
            rank_zero_warn(warning)
        loader.resume(state)

    def _plan(self, split: Split) -> dict[str, Any]:
        rank, world = rank_of(self.active_trainer)
        selection = self.selection(split)
        return {
            "shard_counts": self.index(split).shard_counts,
            "batch_size": self.batch_size,
            "keep": selection.keep,
            "rank": rank,
            "world": world,
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
