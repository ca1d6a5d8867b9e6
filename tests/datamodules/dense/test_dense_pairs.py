from __future__ import annotations

import json
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentParser
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules.dense.batches import PairBatch
from datamodules.dense.dense_pairs import DensePairs
from datamodules.shards.index import Index
from datamodules.stream.loader import PlanLoader
from datamodules.stream.plan import order
from datamodules.video.facts import VideoFacts
from tests.support.flow_harness import KINDS, FlowRecorder, attached
from tests.support.flow_shards import (
    LABELS,
    VIDEO,
    FlowShards,
    random_tensors,
    write_flow_shards,
    write_labels,
    write_pairs,
)
from tests.support.pairs_harness import trainer

COUNT = 12
#: The keys that the filter lets through: one in six has no label that is no tie.
KEYS = [f"p{number:02d}" for number in range(COUNT) if any(LABELS[number % len(LABELS)])]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> FlowShards:
    return write_flow_shards(tmp_path_factory.mktemp("flow"), COUNT)


def dense(shards: FlowShards, **settings: Any) -> DensePairs:
    return DensePairs(shards.pairs, shards.labels, **({"batch_size": 2, "seed": 5} | settings))


def steps(data: DensePairs, batches: int) -> list[PairBatch]:
    loader: PlanLoader[PairBatch] = data.train_dataloader()
    read: list[PairBatch] = []
    while len(read) < batches:
        read += list(loader)
    return read[:batches]


def epoch_of(data: DensePairs) -> dict[str, tuple[PairBatch, int]]:
    """Key -> batch and place, of one pass over all that is taken."""
    return {key: (batch, place) for batch in data.train_dataloader() for place, key in enumerate(batch.keys)}


def labels_of(data: DensePairs) -> dict[str, tuple[list[int], int]]:
    return {key: (b.labels[row].tolist(), int(b.preference[row])) for key, (b, row) in epoch_of(data).items()}


def test_a_batch_holds_what_the_shards_hold(shards: FlowShards) -> None:
    (batch,) = steps(attached(dense(shards, batch_size=len(KEYS))), 1)
    assert sorted(batch.keys) == KEYS
    for place, key in enumerate(batch.keys):
        assert torch.equal(batch.first[place], random_tensors(key, "first", *batch.first.shape[1:]))
        assert torch.equal(batch.second[place], random_tensors(key, "second", *batch.first.shape[1:]))
        prompt = batch.prompts[place]["embeds"]
        assert torch.equal(prompt, random_tensors(key, "prompt", *prompt.shape))
        first, middle, last = LABELS[int(key[1:]) % len(LABELS)]
        assert batch.labels[place].tolist() == [first, first, middle, last]
        total = first + middle + last
        assert batch.preference[place] == (total > 0) - (total < 0)
    assert batch.segments.tolist() == [[0, 0, 1, 2]] * len(KEYS)
    assert len({prompt["embeds"].shape[0] for prompt in batch.prompts}) > 1
    assert batch.noise.shape == batch.first.shape == (10, 4, 4, 2, 4)
    assert batch.mask.all()
    assert (batch.labels.dtype, batch.preference.dtype, batch.t.dtype) == (torch.int8, torch.int8, torch.float32)
    assert batch.denominators == {
        "frames": float((batch.labels != 0).sum()),
        "videos": float((batch.preference != 0).sum()),
        "pairs": 10.0,
    }


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 2), st.integers(0, 3))
def test_time_and_noise_belong_to_key_epoch_and_seed_alone(
    shards: FlowShards, world: int, batch_size: int, accumulation: int, seed: int
) -> None:
    drawn: dict[tuple[str, int], float] = {}
    for rank in range(world):
        changes = {"rank": rank, "world": world, "accumulate_grad_batches": accumulation}
        data = attached(dense(shards, batch_size=batch_size, seed=seed), **changes)
        for number, batch in enumerate(steps(data, 2 * -(-len(KEYS) // (world * batch_size)))):
            for place, key in enumerate(batch.keys):
                epoch = (number * world * batch_size + place * world + rank) // len(KEYS)
                assert torch.equal(batch.noise[place], data.draw.noise(key, epoch, batch.noise.shape[1:]))
                assert batch.t[place] == torch.tensor(data.draw.time(key, epoch), dtype=torch.float32)
                drawn[key, epoch] = float(batch.t[place])
    assert {(key, epoch) for key in KEYS for epoch in (0, 1)} <= set(drawn)
    assert len(set(drawn.values())) == len(drawn)
    other = dense(shards, seed=seed + 1).draw
    assert other.time(KEYS[0], 0) != drawn[KEYS[0], 0]


def test_workers_draw_what_the_process_itself_draws(shards: FlowShards) -> None:
    plain, workers = (steps(attached(dense(shards, num_workers=number)), 7) for number in (0, 2))
    for one, other in zip(plain, workers, strict=True):
        assert one.keys == other.keys
        assert torch.equal(one.noise, other.noise)
        assert torch.equal(one.t, other.t)


@settings(max_examples=15, deadline=None, derandomize=True, database=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_denominators_count_frames_over_ranks_and_accumulation(
    shards: FlowShards, world: int, batch_size: int, accumulation: int
) -> None:
    totals = dict.fromkeys(KINDS, 0.0)
    for rank in range(world):
        changes = {"rank": rank, "world": world, "accumulate_grad_batches": accumulation}
        for batch in steps(attached(dense(shards, batch_size=batch_size), **changes), accumulation):
            decided = batch.labels != 0
            counts = (decided.sum(), (batch.preference != 0).sum(), decided.any(-1).sum())
            for name, count in zip(KINDS, counts, strict=True):
                totals[name] += float(count) / batch.denominators[name] / world / accumulation
    # Parts of a whole, each divided by its share of the global count, average to one.
    assert totals == {name: pytest.approx(1.0) for name in KINDS}


def test_the_filter_is_strict_and_comes_before_the_order(shards: FlowShards, tmp_path: Path) -> None:
    golden = json.loads(Path("tests/golden/dense_6_labels.json").read_text())["majority"]
    pairs = write_pairs(tmp_path, len(golden), video=VideoFacts(21, 4.0, 32, 16))
    labels = write_labels(pairs, [case["labels"] for case in golden])
    labels_by_key = labels_of(attached(dense(FlowShards(pairs, labels), batch_size=1)))
    kept = {f"p{number:02d}": case["majority"] for number, case in enumerate(golden) if case["kept_gt_20pct"]}
    assert {key: whole for key, (_, whole) in labels_by_key.items()} == kept
    index = Index.read(shards.pairs)
    positions = [index.positions[key] for key in KEYS]
    expected = order(index.shard_counts, positions, seed=5, epoch=0).tolist()
    batches = steps(attached(dense(shards)), 5)
    assert [index.positions[key] for batch in batches for key in batch.keys] == expected


def test_what_is_left_out_is_counted_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pairs = write_pairs(tmp_path, 12)
    labels = write_labels(pairs, [(1, 0, 0), None, (1, -1, 0), (0, 0, 0)])
    with caplog.at_level(logging.WARNING):
        data = attached(dense(FlowShards(pairs, labels), drop_whole_ties=True, batch_size=1))
    (line,) = caplog.messages
    assert "3 of 12 pairs are taken; left out: 3 without a label" in line
    assert "3 with at most 20% of the segments decided, 3 a tie as a whole" in line
    assert set(epoch_of(data)) == {"p00", "p04", "p08"}
    caplog.clear()
    attached(dense(FlowShards(pairs, labels)), rank=1, world=2)
    assert not caplog.messages
    only = write_labels(pairs, [(0, 0, 0)], name="ties")
    with pytest.raises(ValueError, match=r"0 of 12 pairs are taken; left out: 12 with at most 20%.*min_decided"):
        attached(dense(FlowShards(pairs, only)))


def test_flipped_labels_are_a_draw_by_key_and_seed(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path, 40)
    labels = write_labels(pairs, [(1, -1, 0), (-1, -1, 1)], whole=1)
    shards = FlowShards(pairs, labels)
    plain = labels_of(attached(dense(shards)))

    def turned(**changes: Any) -> set[tuple[str, int]]:
        now = labels_of(attached(dense(shards, **changes)))
        assert all((a == 0) == (b == 0) for key in plain for a, b in zip(now[key][0], plain[key][0], strict=True))
        frames = {
            (key, segment) for key in plain for segment in (0, 2, 3) if now[key][0][segment] != plain[key][0][segment]
        }
        return frames | {(key, -1) for key in plain if now[key][1] != plain[key][1]}

    some = turned(flip_labels=0.4)
    assert len(some) == pytest.approx(0.4 * 40 * 3.5, rel=0.25)
    assert some == turned(flip_labels=0.4, batch_size=5, num_workers=1)
    assert some != turned(flip_labels=0.4, seed=6)
    assert turned(flip_labels=0.2) < some
    assert len(turned(flip_labels=1.0)) == 20 * 3 + 20 * 4
    validated = DensePairs(pairs, labels, pairs, labels, batch_size=40, flip_labels=1.0, label_fraction=0.1)
    (batch,) = attached(validated).val_dataloader()
    assert {key: batch.labels[row].tolist() for row, key in enumerate(batch.keys)} == {
        k: v[0] for k, v in plain.items()
    }


def test_a_smaller_fraction_of_labels_is_part_of_a_larger_one(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path, 40)
    shards = FlowShards(pairs, write_labels(pairs, [(1, 0, 0), None]))

    def taken(**changes: Any) -> set[str]:
        return set(epoch_of(attached(dense(shards, batch_size=1, **changes))))

    half, quarter = taken(label_fraction=0.5), taken(label_fraction=0.25)
    assert (len(half), len(quarter)) == (10, 5)
    assert quarter < half == taken(label_fraction=0.5)
    assert half != taken(label_fraction=0.5, seed=6)


def test_a_resumed_fit_goes_on_with_the_same_time_and_noise(shards: FlowShards, tmp_path: Path) -> None:
    whole, first, second = FlowRecorder(), FlowRecorder(), FlowRecorder()
    settings = {"val": shards.pairs, "val_labels": shards.labels}
    trainer(tmp_path, max_steps=13).fit(whole, dense(shards, **settings))
    checkpoint = ModelCheckpoint(tmp_path, filename="middle", every_n_train_steps=8, save_top_k=-1)
    trainer(tmp_path, max_steps=8, enable_checkpointing=True, callbacks=[checkpoint]).fit(
        first, dense(shards, **settings)
    )
    trainer(tmp_path, max_steps=13).fit(second, dense(shards, num_workers=1), ckpt_path=tmp_path / "middle.ckpt")
    assert first.seen + second.seen == whole.seen
    assert len(whole.seen) == 13
    assert {key for key, _ in whole.validated} == set(KEYS)
    assert len(set(whole.validated)) == len(KEYS), "validation has one time for each pair"


def test_resuming_with_other_labels_or_times_is_refused(shards: FlowShards, tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path, filename="one", every_n_train_steps=1)
    trainer(tmp_path, max_steps=1, enable_checkpointing=True, callbacks=[checkpoint]).fit(FlowRecorder(), dense(shards))
    other = write_labels(shards.pairs, [LABELS[5], *LABELS[1:]], name="other")
    for changed, message in (
        (dense(FlowShards(shards.pairs, other)), "labels was .*: the content of .*other.index.json has changed"),
        (dense(shards, flip_labels=0.1), "flip_labels was"),
        (dense(shards, flow_shift=3.0), "time was"),
        (dense(shards, label_fraction=0.5), "kept was"),
    ):
        with pytest.raises(ValueError, match=f"cannot resume.*{message}"):
            trainer(tmp_path, max_steps=2).fit(FlowRecorder(), changed, ckpt_path=tmp_path / "one.ckpt")


def test_several_files_with_labels_of_their_own_or_of_all(tmp_path: Path) -> None:
    first_pairs, second_pairs = write_pairs(tmp_path, 3, "one"), write_pairs(tmp_path, 3, "two", prefix="q")
    own = [write_labels(first_pairs, [(1, 0, 0)], "one-labels"), write_labels(second_pairs, [(-1, 0, 0)], "two-labels")]
    labels_by_key = labels_of(attached(DensePairs([first_pairs, second_pairs], own[::-1], batch_size=1)))
    assert {key: whole for key, (_, whole) in labels_by_key.items()} == {
        key: 1 if key < "q" else -1 for key in ("p00", "p01", "p02", "q00", "q01", "q02")
    }
    whole = attached(DensePairs([first_pairs, second_pairs], own)).index("train").fingerprint
    every = write_labels(first_pairs, [(0, 1, 0)], "all", fingerprint=whole)
    assert set(epoch_of(attached(DensePairs([first_pairs, second_pairs], every, batch_size=1)))) == {
        "p00",
        "p01",
        "p02",
    }
    with pytest.raises(ValueError, match="have the same keys"):
        attached(DensePairs([first_pairs, second_pairs], [own[0], every]))
    with pytest.raises(ValueError, match=r"made from other pairs.*\n.*two-labels-000000\.tar"):
        attached(DensePairs(first_pairs, own))


def test_training_reads_neither_videos_nor_texts_and_can_be_spawned(shards: FlowShards) -> None:
    loader = attached(dense(shards)).train_dataloader()
    recipe = pickle.loads(pickle.dumps(loader.recipe))  # noqa: S301
    assert recipe.members(0) == ("latents.safetensors", "prompt.safetensors")


def test_ranks_without_a_pair_get_blanks_that_count_nowhere(shards: FlowShards) -> None:
    settings = {"val": shards.pairs, "val_labels": shards.labels, "batch_size": 4}
    seen: list[str] = []
    for rank in range(3):
        *_, last = batches = list(attached(dense(shards, **settings), rank=rank, world=3).val_dataloader())
        assert len(batches) == 1
        seen += [key for key, there in zip(last.keys, last.mask.tolist(), strict=True) if there]
        blank = ~last.mask
        assert not last.labels[blank].any()
        assert not last.preference[blank].any()
        assert [prompt["embeds"].shape[1] for prompt in last.prompts] == [6] * 4
    assert sorted(seen) == KEYS
    alone = attached(dense(shards, **settings | {"batch_size": 1}), rank=10, world=11).val_dataloader()
    (batch,) = list(alone)
    assert not batch.mask.any()
    assert batch.prompts[0]["embeds"].shape == (1, 6)


def test_a_configuration_gives_shares_and_ranges() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(DensePairs, "data")
    data = parser.instantiate(parser.parse_object({"data": {"train": ["a", "b"], "time_range": [0, 0.875]}})).data
    assert (data.draw.highest, data.filters["train"].min_decided) == (0.875, 0.2)


def test_a_pair_of_another_prompt_length_and_size_is_its_own_batch(tmp_path: Path) -> None:
    small = write_pairs(tmp_path, 2, "small", video=VIDEO)
    large = write_pairs(tmp_path, 2, "large", video=VideoFacts(13, 4.0, 64, 16), prefix="q")
    labels = [write_labels(path, [(1, 0, 0)], f"{path[-16:-11]}-labels") for path in (small, large)]
    with pytest.raises(ValueError, match=r"latents of 2 shapes.*\[4, 4, 2, 4\] in sample 'p00'.*batch_size to 1"):
        attached(DensePairs([small, large], labels, batch_size=2))
    shapes = {tuple(batch.first.shape) for batch in steps(attached(DensePairs([small, large], labels)), 4)}
    assert shapes == {(1, 4, 4, 2, 4), (1, 4, 4, 2, 8)}


def test_with_no_least_share_a_whole_label_decides_alone(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path, 6)
    each = [(0, 0, 0), (1, 0, 0), (0, 0, 0)]

    def taken(labels: str, **settings: Any) -> set[str]:
        data = attached(dense(FlowShards(pairs, labels), drop_whole_ties=True, batch_size=1, **settings))
        return set(epoch_of(data))

    whole = write_labels(pairs, each, "whole", whole=-1)
    assert taken(whole, min_decided=None) == {f"p{number:02d}" for number in range(6)}
    assert taken(whole, min_decided=0.0) == {"p01", "p04"}
    assert taken(write_labels(pairs, each, "majority"), min_decided=None) == {"p01", "p04"}


def test_whole_labels_are_flipped_by_their_share_also_where_they_are_a_majority(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path, 200)
    shards = FlowShards(pairs, write_labels(pairs, [(1, 1, -1)]))
    labels_by_key = labels_of(attached(dense(shards, flip_labels=0.2, batch_size=20)))
    # Of flipped segments alone it would be 0.8^2 0.2 + 2 0.2 0.8^2 + ... = 0.30 of them.
    assert sum(whole == -1 for _, whole in labels_by_key.values()) == pytest.approx(40, abs=12)
