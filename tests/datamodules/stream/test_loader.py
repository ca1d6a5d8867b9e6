"""From plan to batches: the same samples with any number of workers, and exact restarts."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules.shards.index import Index
from datamodules.stream.loader import PlanLoader
from datamodules.stream.plan import EvalPlan, Plan, PlannedBatch
from datamodules.stream.recipe import SampleRead
from tests.support.plan_loaders import loader, train
from tests.support.quiet_trainer import quiet_trainer
from tests.support.shard_samples import Batch, KeyRecipe, small_shards

quick = settings(max_examples=15, deadline=None, derandomize=True, database=None)
small = st.integers(1, 3)


def keys_of(index: Index, plan: Plan, start: int, batches: int) -> list[list[str]]:
    starts = range(start, start + batches * plan.global_batch, plan.global_batch)
    return [[index.entries[slot.position].key for slot in plan.batch(start).slots] for start in starts]


@quick
@given(small, small, small, st.integers(0, 2), st.integers(0, 9), st.integers(1, 3))
def test_a_restart_goes_on_with_exactly_the_next_sample(
    index: Index, world: int, batch_size: int, accumulation: int, passes: int, stop: int, new_world: int
) -> None:
    """Stopped anywhere in any pass, resumed at another number of ranks: the steps' samples are those of one run."""
    global_batch = world * batch_size * new_world
    member = np.arange(len(index)) % 3 == 0

    def ranks(world: int) -> list[PlanLoader[Batch]]:
        plans = [
            train(index, batch_size=global_batch // world, accumulation=accumulation, rank=rank, world=world,
                  terms={"clip": member})
            for rank in range(world)
        ]  # fmt: skip
        return [loader(index, plan) for plan in plans]

    before = ranks(world)
    read: list[list[str | None]] = []
    for _ in range(passes):
        read += [[key for batch in together for key in batch.keys] for together in zip(*before, strict=True)]
    streams = [iter(plan_loader) for plan_loader in before]
    read += [
        [key for plan_loader in streams for key in next(plan_loader).keys] for _ in range(min(stop, len(before[0])))
    ]
    states = [plan_loader.progress() for plan_loader in before]
    assert all(state == states[0] for state in states)

    after = ranks(new_world)
    for plan_loader in after:
        plan_loader.resume(states[0])
        assert len(plan_loader) == len(before[0])
    read += [[key for batch in together for key in batch.keys] for together in zip(*after, strict=True)]
    alone = train(index, batch_size=global_batch, accumulation=accumulation)
    expected = keys_of(index, alone, 0, len(read))
    assert [Counter(batch) for batch in read] == [Counter(batch) for batch in expected]


def test_state_is_what_was_handed_out_not_what_workers_prepared(index: Index) -> None:
    plan_loader = loader(index, train(index), num_workers=2, prefetch_factor=4)
    stream = iter(plan_loader)
    first = [next(stream).keys for _ in range(3)]
    time.sleep(0.2)
    state = plan_loader.progress()
    assert state["consumed"] == 6
    assert plan_loader.progress(in_flight=1)["consumed"] == 4
    del stream
    again = loader(index, train(index), num_workers=0)
    again.resume(state)
    rest = [batch.keys for batch in again]
    assert first + rest == keys_of(index, train(index), 0, 3 + len(again))


def test_a_batch_is_made_by_the_recipes_methods_and_handed_out_before_the_next_is_begun(index: Index) -> None:
    """So that a bad sample of the next batch does not take this one with it."""
    calls: list[str] = []

    class Watched(KeyRecipe):
        def members(self, position: int) -> None:
            calls.append(f"members {position}")

        def make_sample(self, sample: SampleRead) -> str:
            calls.append(f"make_sample {sample.position}")
            return super().make_sample(sample)

        def collate(self, samples: list[str | None], planned: PlannedBatch) -> Batch:
            calls.append("collate")
            return super().collate(samples, planned)

    plan_loader = loader(index, train(index), recipe=Watched())
    for batch, start in zip(plan_loader, range(0, 6, 2), strict=False):
        first, second = (slot.position for slot in plan_loader.plan.batch(start).slots)
        assert batch.keys == [index.entries[first].key, index.entries[second].key]
        assert calls == [
            f"members {first}", f"make_sample {first}", f"members {second}", f"make_sample {second}", "collate"
        ]  # fmt: skip
        calls.clear()


@pytest.mark.parametrize("workers", [0, 2])
def test_variables_of_the_environment_drop_no_batch(
    index: Index, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    """webdataset's `split_by_worker` would take this process for one of three workers."""
    monkeypatch.setenv("WORKER", "1")
    monkeypatch.setenv("NUM_WORKERS", "3")
    plan_loader = loader(index, train(index), num_workers=workers)
    assert [batch.keys for batch in plan_loader] == keys_of(index, plan_loader.plan, 0, len(plan_loader))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_workers_change_nothing(index: Index, workers: int) -> None:
    plan_loader = loader(index, train(index, rank=1, world=2, accumulation=2), num_workers=workers)
    batches = [batch for _ in range(2) for batch in plan_loader]
    assert [batch.keys for batch in batches] == keys_of(index, plan_loader.plan, 0, 2 * len(plan_loader))
    if workers:
        assert os.getpid() not in {batch.process for batch in batches}
        assert len({batch.process for batch in batches[: len(plan_loader)]}) == workers


def test_every_sample_once_per_epoch_over_ranks_and_workers(index: Index) -> None:
    read = []
    for rank in range(2):
        plan_loader = loader(index, train(index, batch_size=1, rank=rank, world=2), num_workers=2)
        read += [
            (e, key) for _ in range(3) for batch in plan_loader for e, key in zip(batch.epochs, batch.keys, strict=True)
        ]
    assert len(set(read)) == len(read) == 66
    assert {key for epoch, key in read if epoch == 0} == {f"s{n:03d}" for n in range(23)}


@pytest.mark.slow
def test_spawned_workers_have_their_own_samples(index: Index) -> None:
    plan_loader = loader(index, train(index), num_workers=2, multiprocessing_context="spawn")
    batches = list(plan_loader)
    assert [batch.keys for batch in batches] == keys_of(index, plan_loader.plan, 0, len(plan_loader))
    assert len({batch.process for batch in batches}) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_validation_reads_every_sample_once_at_each_pass(index: Index, workers: int) -> None:
    plans = [EvalPlan(shard_counts=index.shard_counts, batch_size=3, rank=rank, world=2) for rank in range(2)]
    loaders = [loader(index, plan, num_workers=workers) for plan in plans]
    for _ in range(2):
        batches = [list(plan_loader) for plan_loader in loaders]
        assert [len(some) for some in batches] == [4, 4]
        real = [key for some in batches for batch in some for key in batch.keys if key is not None]
        assert sorted(real) == [f"s{n:03d}" for n in range(23)]


def test_the_global_generator_is_left_alone(index: Index) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    for workers in (0, 2):
        list(loader(index, train(index), num_workers=workers))
    assert torch.equal(before, torch.get_rng_state())


def test_only_wanted_members_are_read(index: Index) -> None:
    class Suffixes(KeyRecipe):
        def members(self, position: int) -> list[str]:
            return ["json"]

        def make_sample(self, sample: SampleRead) -> str:
            return ",".join(sample.members)

    plan_loader = loader(index, train(index), recipe=Suffixes())
    assert {key for batch in plan_loader for key in batch.keys} == {"json"}


def test_a_resume_with_another_order_is_refused(index: Index, tmp_path: Path) -> None:
    state = loader(index, train(index)).progress()
    with pytest.raises(ValueError, match=r"the order of the training samples has changed \(seed was 5, is 6"):
        loader(index, train(index, seed=6)).resume(state)
    with pytest.raises(ValueError, match="kept was"):
        loader(index, train(index, keep=range(9))).resume(state)
    other = small_shards(tmp_path, per_shard=6)
    with pytest.raises(ValueError, match=r"the content of the training samples has changed \(fingerprint was"):
        loader(other, train(other)).resume(state)


class Recorder(LightningModule):
    """Notes which samples each of its steps trained on."""

    def __init__(self, index: Index) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.index, self.read, self.start = index, [], None

    def train_dataloader(self) -> PlanLoader[Batch]:
        self.loader = loader(self.index, train(self.index, accumulation=2), num_workers=2)
        if self.start:
            self.loader.resume(self.start)
        return self.loader

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["data"] = self.loader.progress()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.start = checkpoint["data"]

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        self.read.append(tuple(batch.keys))
        return self.weight.sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore:.*LeafSpec")
@pytest.mark.parametrize("steps", [2, 5, 7])
def test_a_lightning_run_stopped_and_resumed_reads_what_an_unbroken_one_reads(
    index: Index, tmp_path: Path, steps: int
) -> None:
    """Stopped at an optimizer step in mid-pass, at the end of a pass, and in the second pass."""

    def trainer(**limits: Any) -> Trainer:
        save = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=-1, filename="{step}")
        return quiet_trainer(
            accumulate_grad_batches=2, max_epochs=2, callbacks=[save], enable_checkpointing=True, **limits
        )

    whole = Recorder(index)
    trainer().fit(whole)
    assert len(whole.read) == 20
    first, rest = Recorder(index), Recorder(index)
    trainer(max_steps=steps).fit(first)
    trainer().fit(rest, ckpt_path=str(tmp_path / f"step={steps}.ckpt"), weights_only=True)
    assert first.read + rest.read == whole.read


def test_optimizer_steps_after_a_restart(index: Index) -> None:
    """Denominators still see whole steps: within a step with the same settings, from the restart on with others."""
    plan_loader = loader(index, train(index, accumulation=2))
    next(iter(plan_loader))
    same = loader(index, train(index, accumulation=2))
    same.resume(plan_loader.progress())
    assert same.plan.batch(2).step_positions.tolist() == plan_loader.plan.batch(0).step_positions.tolist()
    other = loader(index, train(index, accumulation=3))
    other.resume(plan_loader.progress())
    together = [slot.position for batch in (2, 4, 6) for slot in other.plan.batch(batch).slots]
    assert all(other.plan.batch(batch).step_positions.tolist() == together for batch in (2, 4, 6))


def test_what_cannot_start_is_refused_at_once(index: Index) -> None:
    with pytest.raises(ValueError, match="23 samples are fewer than 6 ranks x 4 workers"):
        loader(index, train(index, world=6), num_workers=4)
    with pytest.raises(ValueError, match="another index"):
        loader(index, train(index, shard_counts=[23]))
