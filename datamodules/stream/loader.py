"""Planned samples -> bytes -> decoded samples -> batches.

The vehicle is a webdataset `DataPipeline` whose source is the plan: source, read, make, collate. It is rebuilt at every
pass with the position to start from, so a pass never depends on what an earlier one left behind in a process.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import torch
from torch.utils.data import DataLoader, get_worker_info

from datamodules.shards.byte_reader import BadSampleError, ByteReader
from datamodules.shards.index import Index, SampleEntry
from datamodules.shards.sample_reader import SampleReader
from datamodules.stream.plan import Plan, PlannedBatch, Slot, TrainPlan
from datamodules.stream.worker_signals import ignore_stop_signals

_log = logging.getLogger(__name__)
BatchT = TypeVar("BatchT")

#: Which members of a sample are read, by suffix; None stands for all of them.
Members = Callable[[SampleEntry], "list[str] | None"]


@dataclass(frozen=True, slots=True, eq=False)
class SampleRead:
    """A sample's bytes, on their way to `make_sample`.

    Attributes:
        entry: key, facts and members.
        members: bytes by suffix, checked.
        epoch: the plan's epoch.
        position: the sample's position in the index.
        read_other: (position, suffixes or None) -> another sample's bytes, checked likewise.
    """

    entry: SampleEntry
    members: dict[str, bytes]
    epoch: int
    position: int
    read_other: Callable[..., dict[str, bytes]]


class _Delivery(NamedTuple):
    """A batch with the samples that were skipped in it, key -> why. A tuple, so that pinning reaches the batch."""

    batch: Any
    skipped: dict[str, str]


@dataclass(slots=True, eq=False)
class _Item:
    """One slot on its way through the stages; `content` is None for padding and for a skipped sample."""

    planned: PlannedBatch
    slot: Slot
    content: Any = None
    why: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """The plan's slots from `start` on, one pass: batch i for worker i mod W, so that batches come in order."""

    plan: Plan
    start: int

    def __call__(self) -> Iterator[_Item]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        for number in range(worker, len(self.plan), workers):
            planned = self.plan.batch(self.start + number * self.plan.global_batch)
            for slot in planned.slots:
                yield _Item(planned, slot)


@dataclass(frozen=True, slots=True, eq=False)
class _Stage:
    """Applies `apply` to every slot with a sample; a bad sample is an error or leaves the slot empty."""

    index: Index
    apply: Callable[[_Item], Any]
    skip: bool

    def __call__(self, items: Iterator[_Item]) -> Iterator[_Item]:
        for item in items:
            if item.slot.mask and item.why is None:
                self._run(item)
            yield item

    def _run(self, item: _Item) -> None:
        try:
            item.content = self.apply(item)
        except ValueError as error:
            why = str(error)
            if not isinstance(error, BadSampleError):
                key = self.index.entries[item.slot.position].key
                why = f"{self.index.address(item.slot.position)}: sample {key!r}: {error}"
            if not self.skip:
                raise BadSampleError(why) from error
            item.content, item.why = None, why


@dataclass(frozen=True, slots=True, eq=False)
class _Read:
    samples: SampleReader
    members: Members | None

    def __call__(self, item: _Item) -> SampleRead:
        position = item.slot.position
        entry = self.samples.index.entries[position]
        content = self.samples.read(position, self.members(entry) if self.members else None)
        return SampleRead(entry, content, item.slot.epoch, position, self.samples.read)


@dataclass(frozen=True, slots=True, eq=False)
class _Make:
    make_sample: Callable[[SampleRead], Any]

    def __call__(self, item: _Item) -> Any:
        return self.make_sample(item.content)


@dataclass(frozen=True, slots=True, eq=False)
class _Collate:
    """Puts the slots of a planned batch together again."""

    index: Index
    collate: Callable[[list[Any], PlannedBatch], Any]

    def __call__(self, items: Iterator[_Item]) -> Iterator[_Delivery]:
        ready: list[_Item] = []
        for item in items:
            ready.append(item)
            if len(ready) == len(item.planned.slots):
                slots = tuple(replace(one.slot, mask=one.slot.mask and one.why is None) for one in ready)
                batch = self.collate([one.content for one in ready], replace(item.planned, slots=slots))
                keys = (self.index.entries[one.slot.position].key for one in ready)
                yield _Delivery(batch, {key: one.why for key, one in zip(keys, ready, strict=True) if one.why})
                ready = []


def _as_is(delivery: Any) -> Any:
    return delivery


def _nothing() -> None:
    """Without workers there is nothing to shut down."""


@dataclass(eq=False, kw_only=True)
class PlanLoader(Generic[BatchT]):
    """A sized loader of planned batches whose position is known exactly.

    Lightning does not prefetch from a loader that has a length, and asks for a new iterator at each pass, so
    `consumed` is right whenever a batch is in the caller's hands: it counts batches handed out here, in the main
    process, not those that workers prepared. Keep `progress` in the datamodule's state. There is no method called
    ``state_dict`` on purpose: Lightning would save it, and forget to load it at the end of an epoch.

    Attributes:
        plan: what to read; a training plan goes on from pass to pass, an evaluation plan starts anew.
        index: where it is.
        make_sample: one sample's bytes -> anything; a ValueError marks a bad sample. Runs in the workers, as does
        collate: (samples, planned batch) -> batch. A sample is None exactly where the slot's mask is False.
        members: which members of a sample to read; None = all.
        num_workers: processes per rank; 0 = in this one.
        multiprocessing_context: "fork", "spawn" or "forkserver"; None = the platform's default.
        on_bad_sample: raise the error that names shard and key, or skip: the slot is masked.
        max_bad_samples: how many different samples may be skipped on this rank before that is an error after all.
        prefetch_factor: batches that each worker prepares ahead.
        pin_memory: page-lock batches (they need a method of that name).
        reader: fetches bytes.
        consumed: samples handed out so far, over all ranks and passes.
        bad_samples: key -> why, of the samples skipped so far on this rank.
    """

    plan: Plan
    index: Index
    make_sample: Callable[[SampleRead], Any]
    collate: Callable[[list[Any], PlannedBatch], BatchT]
    members: Members | None = None
    num_workers: int = 0
    multiprocessing_context: str | None = None
    on_bad_sample: Literal["raise", "skip"] = "raise"
    max_bad_samples: int = 10
    prefetch_factor: int = 2
    pin_memory: bool = False
    reader: ByteReader = field(default_factory=ByteReader)
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
            for delivery in deliveries:
                self._note(delivery.skipped)
                self.consumed += self.plan.global_batch
                yield delivery.batch
        finally:
            # Otherwise workers live on after an error or an early stop until the garbage collector comes by.
            getattr(deliveries, "_shutdown_workers", _nothing)()

    def progress(self, in_flight: int = 0) -> dict[str, Any]:
        """Where a training plan stands, in plain types: the same on every rank but for `bad_samples`.

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
        from webdataset import DataPipeline

        samples, skip = SampleReader(self.index, self.reader), self.on_bad_sample == "skip"
        pipeline = DataPipeline(
            _Source(self.plan, start),
            _Stage(self.index, _Read(samples, self.members), skip),
            _Stage(self.index, _Make(self.make_sample), skip),
            _Collate(self.index, self.collate),
        )
        loader: DataLoader[_Delivery] = DataLoader(
            pipeline,
            batch_size=None,
            collate_fn=_as_is,
            num_workers=self.num_workers,
            multiprocessing_context=self.multiprocessing_context if self.num_workers else None,
            worker_init_fn=ignore_stop_signals,
            prefetch_factor=self.prefetch_factor if self.num_workers else None,
            pin_memory=self.pin_memory,
            # Its own, because making an iterator draws from it, and the global one belongs to the model.
            generator=torch.Generator().manual_seed(start),
        )
        return iter(loader)

    def _note(self, skipped: Mapping[str, str]) -> None:
        for key, why in skipped.items():
            if key not in self.bad_samples:
                _log.warning("skipped a sample (%d so far): %s", len(self.bad_samples) + 1, why)
                self.bad_samples[key] = why
        if len(self.bad_samples) > self.max_bad_samples:
            raise BadSampleError(
                f"{len(self.bad_samples)} samples are bad, max_bad_samples allows {self.max_bad_samples}:\n"
                + "\n".join(self.bad_samples.values())
            )
