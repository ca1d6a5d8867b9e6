"""Planned samples -> bytes -> decoded samples -> batches.

A pass is a webdataset `DataPipeline` whose source is the plan: where this worker's batches begin, what the plan has
there, and the batch that the recipe makes of it. It is rebuilt at every pass with the position to start from, so a pass
never depends on what an earlier one left behind in a process.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from datamodules.shards.byte_reader import BadSampleError, ByteReader
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.stream.hand_out import HandOut
from datamodules.stream.plan import Plan, PlannedBatch, TrainPlan
from datamodules.stream.recipe import Recipe, SampleRead
from datamodules.stream.worker_signals import ignore_stop_signals

_log = logging.getLogger(__name__)
BatchT = TypeVar("BatchT")


class _Delivery(NamedTuple):
    """A batch with the samples that were skipped in it, key -> why. A tuple, so that pinning reaches the batch."""

    batch: Any
    skipped: dict[str, str]


def _batch_starts(plan: Plan, start: int) -> range:
    """Where this worker's batches of a pass begin: batch i is worker i mod W's, so that batches come in order."""
    # Not webdataset's `split_by_worker`, which believes the environment variables WORKER and NUM_WORKERS first.
    info = get_worker_info()
    worker, workers = (info.id, info.num_workers) if info else (0, 1)
    step = plan.global_batch
    return range(start + worker * step, start + len(plan) * step, workers * step)


@dataclass(frozen=True, slots=True, eq=False)
class _BatchMaker:
    """Reads, decodes and collates the samples of a planned batch; a bad one is an error or leaves its slot empty.

    The plan makes the batches, not webdataset's `batched`: that stage holds a full batch back until the first sample of
    the next one is decoded, whose error would then take the full batch with it.
    """

    samples: SampleReader
    recipe: Recipe[Any]
    skip: bool

    def __call__(self, planned: PlannedBatch) -> _Delivery:
        index, samples, slots = self.samples.index, [], []
        skipped: dict[str, str] = {}
        for slot in planned.slots:
            sample = None
            if slot.mask:
                try:
                    content = self.samples.read(slot.position, self.recipe.members(slot.position))
                    entry = index.entries[slot.position]
                    sample = self.recipe.make_sample(
                        SampleRead(entry, content, slot.epoch, slot.position, self.samples.read)
                    )
                except ValueError as error:
                    # A mistake in the code raises another error, and is not skipped.
                    key, message = index.entries[slot.position].key, str(error)
                    if not isinstance(error, BadSampleError):  # which names shard and key itself
                        message = f"{index.address(slot.position)}: sample {key!r}: {error}"
                    if not self.skip:
                        raise BadSampleError(message) from error
                    skipped[key] = message
                    slot = replace(slot, mask=False)
            samples.append(sample)
            slots.append(slot)
        return _Delivery(self.recipe.collate(samples, replace(planned, slots=tuple(slots))), skipped)


@dataclass(frozen=True, slots=True, eq=False)
class _NumberedBatches(Dataset[_Delivery]):
    """Item i is the plan's i-th batch."""

    plan: Plan
    make: _BatchMaker

    def __getitem__(self, number: int) -> _Delivery:
        return self.make(self.plan.batch(number * self.plan.global_batch))


@dataclass(eq=False, kw_only=True)
class PlanLoader(Generic[BatchT]):
    """A sized loader of planned batches whose position is known exactly.

    Lightning does not prefetch from a loader that has a length, and asks for a new iterator at each pass, so
    `consumed` is right whenever a batch is in the caller's hands: it counts batches handed out here, in the main
    process, not those that workers prepared. Keep `progress` in the datamodule's state. There is no method called
    ``state_dict`` on purpose: Lightning would save it, and forget to load it at the end of an epoch.

    Attributes:
        plan: what to read; a training plan goes on from pass to pass, an evaluation plan starts again.
        index: where it is.
        recipe: how the bytes become batches; runs in the workers.
        num_workers: processes per rank; 0 = in this one.
        multiprocessing_context: "fork", "spawn" or "forkserver"; None = the platform's default.
        on_bad_sample: raise the error that names shard and key, or skip: the slot is masked.
        max_bad_samples: how many different samples may be skipped on this rank before that is an error after all.
        prefetch_factor: batches that each worker prepares ahead.
        pin_memory: page-lock batches (they need a method of that name).
        reader: fetches bytes.
        hand_out: which of an evaluation plan's batches this rank reads, as it needs them; None = all of them. It is
            for one pass, and `len` is then the number of batches of all ranks, of which one may read any number.
        consumed: samples handed out so far, over all ranks and passes; with a hand-out those of this rank.
        bad_samples: key -> why, of the samples skipped so far on this rank.
    """

    plan: Plan
    index: Index
    recipe: Recipe[BatchT]
    num_workers: int = 0
    multiprocessing_context: str | None = None
    on_bad_sample: Literal["raise", "skip"] = "raise"
    max_bad_samples: int = 10
    prefetch_factor: int = 2
    pin_memory: bool = False
    reader: ByteReader = field(default_factory=ByteReader)
    hand_out: HandOut | None = None
    consumed: int = field(default=0, init=False)
    bad_samples: dict[str, str] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if list(self.plan.shard_counts) != self.index.shard_counts:
            raise ValueError("the plan was made for another index: their samples per shard differ")
        self.plan.check_workers(self.num_workers)

    def __len__(self) -> int:
        """Batches in a full pass, also when the first one after a restart is shorter."""
        return len(self.plan)

    def __iter__(self) -> Iterator[BatchT]:
        if not self.plan.endless:
            self.consumed = 0
        deliveries = self._deliveries(self.consumed)
        try:
            for delivery in deliveries if self.hand_out is None else self.hand_out.counted(deliveries):
                self._count(delivery.skipped)
                # Before the yield: a generator goes on only when the next batch is asked for, after the step.
                self.consumed += self.plan.global_batch
                yield delivery.batch
        finally:
            # Otherwise workers live on after an error or an early stop until the garbage collector comes by.
            if hasattr(deliveries, "_shutdown_workers"):  # without workers there is nothing to shut down
                deliveries._shutdown_workers()

    def progress(self, in_flight: int = 0) -> dict[str, Any]:
        """How far a training plan is, in plain types: the same on every rank but for `bad_samples`.

        Args:
            in_flight: batches handed out whose step was not finished; they are given again after a restart.
        """
        plan = self._train_plan()
        return {
            "consumed": self.consumed - in_flight * plan.global_batch,
            "origin": plan.origin,
            "global_batch": plan.global_batch,
            "step_samples": plan.step_samples,
            "fingerprint": self.index.fingerprint,
            "bad_samples": dict(self.bad_samples),
            **plan.identity(),
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on with exactly the next sample, at any number of ranks and workers.

        Args:
            state: what `progress` returned.

        Raises:
            ValueError: other shards, seed, window or filter, with which "the next sample" has no meaning.
        """
        plan = self._train_plan()
        now = {"fingerprint": self.index.fingerprint, **plan.identity()}
        changed = [
            f"{name} was {state.get(name)!r}, is {value!r}" for name, value in now.items() if state.get(name) != value
        ]
        if changed:
            what = "content" if state.get("fingerprint") != now["fingerprint"] else "order"
            raise ValueError(
                f"cannot resume: the {what} of the training samples has changed (" + "; ".join(changed) + "). Restore "
                "the former settings, or start a new run: another --trainer.default_root_dir, or --ckpt_path null"
            )
        self.consumed = state["consumed"]
        # With another step size, optimizer steps are counted from here on; otherwise as before, so that a restart
        # between two micro-batches of a step still sees that step as a whole.
        same_steps = state["step_samples"] == plan.step_samples
        self.plan = replace(plan, origin=state["origin"] if same_steps else self.consumed)
        self.bad_samples = dict(state["bad_samples"])

    def _train_plan(self) -> TrainPlan:
        assert isinstance(self.plan, TrainPlan), "only training has a state"
        return self.plan

    def _deliveries(self, start: int) -> Iterator[_Delivery]:
        # Imported here: most verbs of the command read no shards, and webdataset takes a while.
        from webdataset import DataPipeline
        from webdataset.filters import identity
        from webdataset.filters import map as map_stage

        make = _BatchMaker(SampleReader(self.index, self.reader), self.recipe, skip=self.on_bad_sample == "skip")
        source: Dataset[_Delivery]
        if self.hand_out is None:
            source = DataPipeline(partial(_batch_starts, self.plan, start), map_stage(self.plan.batch), map_stage(make))
        else:
            source = _NumberedBatches(self.plan, make)
        # What a worker prepares is taken already: at the end the others wait for a slow rank's, so it is one a worker.
        ahead = self.prefetch_factor if self.hand_out is None else 1
        loader: DataLoader[_Delivery] = DataLoader(
            source,
            sampler=self.hand_out,  # asked by this process, one number for each batch that a worker begins with
            batch_size=None,  # the source yields batches, which torch's own conversion would look into
            collate_fn=identity,
            num_workers=self.num_workers,
            multiprocessing_context=self.multiprocessing_context if self.num_workers else None,
            worker_init_fn=ignore_stop_signals,
            prefetch_factor=ahead if self.num_workers else None,
            pin_memory=self.pin_memory,
            # Its own, because making an iterator draws from it, and the global one belongs to the model.
            generator=torch.Generator().manual_seed(start),
        )
        return iter(loader)

    def _count(self, skipped: Mapping[str, str]) -> None:
        for key, why in skipped.items():
            if key not in self.bad_samples:
                _log.warning("skipped a sample (%d so far): %s", len(self.bad_samples) + 1, why)
                self.bad_samples[key] = why
        if len(self.bad_samples) > self.max_bad_samples:
            raise BadSampleError(
                f"{len(self.bad_samples)} samples are bad, max_bad_samples allows {self.max_bad_samples}:\n"
                + "\n".join(self.bad_samples.values())
            )
