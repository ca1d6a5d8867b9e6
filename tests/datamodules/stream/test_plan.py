"""Who reads what when, over ranks, batch sizes, accumulation, epochs and restarts, without reading a byte."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.stream.plan import EvalPlan, TrainPlan, order

quick = settings(max_examples=60, deadline=None, derandomize=True, database=None)
shard_counts = st.lists(st.integers(0, 6), min_size=1, max_size=8).filter(lambda counts: sum(counts) > 0)
small = st.integers(1, 4)


@st.composite
def filtered(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    counts = draw(shard_counts)
    return counts, draw(st.lists(st.integers(0, sum(counts) - 1), min_size=1, unique=True))


def shards_of(positions: np.ndarray, counts: list[int]) -> list[int]:
    return np.searchsorted(np.cumsum(counts), positions, side="right").tolist()


def stream(plans: list[TrainPlan], batches: int) -> list[tuple[int, int]]:
    """What all ranks read, in the order of the plan."""
    read = []
    for number in range(batches):
        shares = [plan.batch(number * plan.global_batch).slots for plan in plans]
        read += [(slot.epoch, slot.position) for together in zip(*shares, strict=True) for slot in together]
    return read


def ranks(world: int, **settings: Any) -> list[TrainPlan]:
    return [TrainPlan(rank=rank, world=world, **settings) for rank in range(world)]


@quick
@given(filtered(), st.integers(0, 5), st.integers(0, 5), small)
def test_order_has_every_kept_sample_once(
    data: tuple[list[int], list[int]], seed: int, epoch: int, window: int
) -> None:
    counts, keep = data
    positions = order(counts, keep, seed, epoch, window)
    assert sorted(positions.tolist()) == sorted(keep)
    assert np.array_equal(positions, order(counts, keep[::-1], seed, epoch, window)), "a filter is a set"


@quick
@given(filtered(), st.integers(0, 5), small)
def test_order_stays_within_windows_of_the_shards_that_are_left(
    data: tuple[list[int], list[int]], epoch: int, window: int
) -> None:
    counts, keep = data
    used = Counter(shards_of(np.array(keep), counts))
    left = shards_of(order(counts, keep, 3, epoch, window), counts)
    windows = 0
    while left:
        # A window ends when as many different shards as it holds have given all they have.
        size = next(
            n
            for n in range(1, len(left) + 1)
            if all(left[:n].count(s) == used[s] for s in set(left[:n]))
            and (len(set(left[:n])) == window or n == len(left))
        )
        left = left[size:]
        windows += 1
    assert windows == math.ceil(len(used) / window)


def test_order_is_pinned() -> None:
    """A resumed run relies on this order staying the same over releases of numpy and of this project."""
    assert order([3, 4, 2], None, seed=7, epoch=2, window=2).tolist() == [5, 3, 1, 2, 4, 0, 6, 7, 8]
    assert order([3, 4, 2], None, 7, 2, 2).tolist() != order([3, 4, 2], None, 7, 3, 2).tolist()
    assert order([3, 4, 2], None, 7, 2, 2).tolist() != order([3, 4, 2], None, 8, 2, 2).tolist()


def test_the_window_decides_how_far_samples_travel() -> None:
    counts = [10] * 12
    alone = shards_of(order(counts, None, 0, 0, window=1), counts)
    assert all(len(set(alone[first : first + 10])) == 1 for first in range(0, 120, 10))
    assert alone[::10] != sorted(alone[::10]), "the shards themselves are shuffled"
    assert len(set(shards_of(order(counts, None, 0, 0, window=12), counts)[:10])) > 3


@quick
@given(filtered(), small, small, small, st.integers(0, 3), small)
def test_training_reads_every_sample_once_per_epoch_whatever_the_ranks(
    data: tuple[list[int], list[int]], world: int, batch_size: int, accumulation: int, seed: int, window: int
) -> None:
    counts, keep = data
    plans = ranks(
        world,
        shard_counts=counts,
        keep=keep,
        batch_size=batch_size,
        accumulation=accumulation,
        seed=seed,
        window=window,
    )
    batches = math.ceil(3 * len(keep) / plans[0].global_batch)
    read = stream(plans, batches)[: 3 * len(keep)]
    expected = [(epoch, int(p)) for epoch in range(3) for p in order(counts, keep, seed, epoch, window)]
    assert read == expected
    assert len({len(plan) for plan in plans}) == 1
    assert len(plans[0]) % accumulation == 0
    assert len(plans[0]) > 0
    assert all(slot.mask for plan in plans for slot in plan.batch(0).slots)


@quick
@given(filtered(), small, small, small, st.integers(0, 40))
def test_a_step_has_the_same_samples_at_any_number_of_ranks(
    data: tuple[list[int], list[int]], world: int, batch_size: int, accumulation: int, step: int
) -> None:
    counts, keep = data
    start = step * world * batch_size * accumulation
    common = {"shard_counts": counts, "keep": keep, "seed": 1, "window": 2}

    def samples_of_step(plans: list[TrainPlan]) -> Counter:
        starts = range(start, start + plans[0].step_samples, plans[0].global_batch)
        batches = [plan.batch(start) for plan in plans for start in starts]
        for batch in batches:
            assert Counter(batch.step_positions.tolist()) == Counter(s.position for b in batches for s in b.slots)
        return Counter((slot.epoch, slot.position) for batch in batches for slot in batch.slots)

    spread = samples_of_step(ranks(world, batch_size=batch_size, accumulation=accumulation, **common))
    alone = samples_of_step(ranks(1, batch_size=world * batch_size, accumulation=accumulation, **common))
    at_once = samples_of_step(ranks(1, batch_size=world * batch_size * accumulation, **common))
    assert spread == alone == at_once


@quick
@given(filtered(), small, small, small, st.integers(0, 20), st.data())
def test_denominators_give_the_global_mean(
    data: tuple[list[int], list[int]], world: int, batch_size: int, accumulation: int, step: int, more: st.DataObject
) -> None:
    """Sum over a micro-batch / denominator, averaged over ranks and accumulation, is the mean over the whole step."""
    counts, keep = data
    size = {"min_size": sum(counts), "max_size": sum(counts)}
    # Booleans say who takes part; integers how often, as with the latent frames of a video.
    items = np.array(more.draw(st.one_of(st.lists(st.booleans(), **size), st.lists(st.integers(0, 5), **size))))
    values = np.arange(1.0, sum(counts) + 1)
    plans = ranks(
        world,
        shard_counts=counts,
        keep=keep,
        batch_size=batch_size,
        accumulation=accumulation,
        terms={"clip": items},
    )
    start = step * plans[0].step_samples
    parts, read = [], []
    for plan in plans:
        for first in range(start, start + plan.step_samples, plan.global_batch):
            batch = plan.batch(first)
            mine = [slot.position for slot in batch.slots for _ in range(int(items[slot.position]))]
            parts.append(values[mine].sum() / batch.denominators["clip"])
            read += mine
    assert np.mean(parts) == pytest.approx(values[read].mean() if read else 0.0)


@quick
@given(filtered(), small, small, small, st.integers(1, 30))
def test_steps_are_counted_from_the_origin(
    data: tuple[list[int], list[int]], world: int, batch_size: int, accumulation: int, origin: int
) -> None:
    counts, keep = data
    (plan,) = ranks(
        1, shard_counts=counts, keep=keep, batch_size=world * batch_size, accumulation=accumulation, origin=origin
    )
    step = [plan.batch(origin + number * plan.global_batch) for number in range(accumulation)]
    read = Counter(slot.position for batch in step for slot in batch.slots)
    assert all(Counter(batch.step_positions.tolist()) == read for batch in step)


@quick
@given(filtered(), small, small)
def test_evaluation_reads_every_sample_exactly_once(
    data: tuple[list[int], list[int]], world: int, batch_size: int
) -> None:
    counts, keep = data
    terms = {"object": np.arange(sum(counts)) % 2 == 0}
    plans = [
        EvalPlan(shard_counts=counts, keep=keep, batch_size=batch_size, rank=rank, world=world, terms=terms)
        for rank in range(world)
    ]
    assert len({len(plan) for plan in plans}) == 1
    read = []
    for number in range(len(plans[0])):
        batches = [plan.batch(number * plan.global_batch) for plan in plans]
        assert all(len(batch.slots) == batch_size for batch in batches)
        assert all(slot.position in keep for batch in batches for slot in batch.slots), "padding can be looked up"
        real = [slot.position for batch in batches for slot in batch.slots if slot.mask]
        assert sorted(real) == sorted(batches[0].step_positions.tolist())
        count = sum(position % 2 == 0 for position in real)
        assert batches[0].denominators == {"object": count / world if count else 1.0}
        read += real
    assert sorted(read) == sorted(keep)


def test_a_pass_ends_with_a_full_step() -> None:
    plan = TrainPlan(shard_counts=[20], batch_size=3, accumulation=2)
    assert len(plan) == 6
    assert len(TrainPlan(shard_counts=[2], batch_size=3, accumulation=2)) == 2, "at least one step"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"accumulation": 0}, "accumulation is 0"),
        ({"window": 0}, "window is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"keep": []}, "keeps none of 9"),
        ({"keep": [2, 9]}, "positions 2 to 9, the index has 0 to 8"),
        ({"terms": {"clip": np.ones(4, dtype=bool)}}, "'clip' says of 4 samples"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        TrainPlan(**{"shard_counts": [4, 5], "batch_size": 2, **change})


def test_fewer_samples_than_ranks_and_workers() -> None:
    train = TrainPlan(shard_counts=[5], batch_size=1, world=2)
    train.check_workers(2)
    with pytest.raises(ValueError, match="5 samples are fewer than 2 ranks x 3 workers"):
        train.check_workers(3)
    EvalPlan(shard_counts=[1], batch_size=1, world=2).check_workers(3)


def test_identity_tells_filters_apart() -> None:
    plan = TrainPlan(shard_counts=[4, 5], batch_size=2)
    assert plan.identity() == TrainPlan(shard_counts=[4, 5], batch_size=7, world=3, rank=1).identity()
    assert plan.identity() != TrainPlan(shard_counts=[4, 5], batch_size=2, keep=[0, 1, 2]).identity()
