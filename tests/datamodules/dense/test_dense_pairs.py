"""`DensePairs`: what its batches hold, over ranks, workers and restarts."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentParser
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules.dense.dense_pairs import DensePairs
from datamodules.video.facts import VideoFacts
from tests.support.dense_pairs_harness import KEYS, dense, epoch_of, labels_of, steps
from tests.support.flow_harness import KINDS, FlowRecorder, attached
from tests.support.flow_shards import LABELS, VIDEO, FlowShards, random_tensors, write_labels, write_pairs
from tests.support.pairs_harness import trainer


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
