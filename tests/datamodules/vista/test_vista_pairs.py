from __future__ import annotations

import pickle
import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentError, ArgumentParser
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules.schemas import write_shards
from datamodules.shards.index import Index
from datamodules.vista.facts import SampleFacts
from datamodules.vista.object_negatives import RoiMask
from datamodules.vista.partners import Partners
from datamodules.vista.samples import Box
from datamodules.vista.span_negatives import Noise, OtherVideo, OtherVideoSegment, Shuffle
from datamodules.vista.views import Level, Negatives
from datamodules.vista.vista_pairs import VistaPairs
from tests.support.annotated_videos import annotated, numbered_video
from tests.support.pairs_harness import COUNT, Eye, Recorder, attached, eleven_samples, frames_by_key, pairs, trainer


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return eleven_samples(tmp_path_factory.mktemp("shards"))


def test_a_batch_holds_views_answers_masks_and_denominators(shards: Path) -> None:
    data = attached(pairs(shards, batch_size=COUNT))
    batch = next(iter(data.train_dataloader()))
    assert sorted(batch.keys) == [f"s{number:02d}" for number in range(COUNT)]
    assert batch.mask.tolist() == [True] * COUNT
    members: dict[str, set[str]] = {key: set() for key in batch.keys}
    for view in batch.views:
        members[batch.keys[view.sample]].add(view.name)
        assert view.frames.shape == (4, 3, 32, 48)
    for number in range(COUNT):
        key = f"s{number:02d}"
        assert ("clip" in members[key]) == ("clip_negative" in members[key]) == (number % 3 != 0)
        assert ("object" in members[key]) == (number % 4 != 0)
        assert (batch.keys.index(key) in batch.rows("original", "irrelevant")) == (number % 5 != 0)
    assert batch.denominators == {
        "response": 11.0,
        "token": 11.0,
        "supervised": 11.0,
        "video": 11.0,
        "clip": 7.0,
        "object": 8.0,
    }
    assert len(batch.rows("clip_negative", "chosen")) == batch.denominators["clip"]


def test_facts_and_levels_are_worked_out_once_a_sample(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By set-up, the plans' denominators, the reading of samples and of their partners, at every pass and split."""
    counts: Counter[str] = Counter()
    from_index, levels = SampleFacts.from_index, Negatives.levels

    def counted_facts(key: str, facts: Mapping[str, Any]) -> SampleFacts:
        counts[f"facts of {key}"] += 1
        return from_index(key, facts)

    def counted_levels(self: Negatives, facts: SampleFacts) -> frozenset[Level]:
        counts[f"levels of {facts.key}"] += 1
        return levels(self, facts)

    monkeypatch.setattr(SampleFacts, "from_index", counted_facts)
    monkeypatch.setattr(Negatives, "levels", counted_levels)
    data = attached(pairs(shards, val=str(shards), batch_size=3, clip_negative=OtherVideoSegment()))
    for _ in range(2):
        loader = data.train_dataloader()
        assert sum(len(batch.keys) for batch in [*loader, *loader, *data.val_dataloader()]) == 30
    attached(data, stage="predict")  # which begins again: another policy may see other parts of the frames
    assert len(list(data.predict_dataloader())) == 4
    recipe = data.recipe("predict")
    assert {"facts", "levels", "partners"} <= vars(recipe.annotations).keys(), "workers find them made"
    keys = [f"s{number:02d}" for number in range(COUNT)]
    once = [f"facts of {key}" for key in keys] + [f"levels of {key}" for key in keys]
    assert counts == Counter(2 * once)


def test_the_module_decides_which_views_are_made(shards: Path) -> None:
    data = attached(pairs(shards), {"original": ("chosen",)})
    for batch in data.train_dataloader():
        assert {view.name for view in batch.views} == {"original"}
        assert all(list(view.answers) == ["chosen"] for view in batch.views)


def test_every_slot_has_a_view_even_where_no_needed_one_exists(shards: Path) -> None:
    data = attached(pairs(shards, batch_size=COUNT), {"object": ("chosen",), "object_negative": ("chosen",)})
    batch = next(iter(data.train_dataloader()))
    assert {view.sample for view in batch.views} == set(range(COUNT))
    assert len(batch.rows("object", "chosen")) == batch.denominators["object"] == 8


def test_views_do_not_depend_on_batches_workers_or_epoch(shards: Path) -> None:
    negatives = {"video_negative": Shuffle(), "clip_negative": OtherVideoSegment()}
    plain = frames_by_key(list(attached(pairs(shards, batch_size=1, **negatives)).train_dataloader()))
    loader = attached(pairs(shards, batch_size=3, num_workers=2, **negatives)).train_dataloader()
    other = frames_by_key([*loader, *loader, *loader, *loader])
    assert plain.keys() == other.keys()
    assert all(torch.equal(plain[name], other[name]) for name in plain)


def test_resampling_draws_anew_in_each_epoch_of_the_plan(shards: Path) -> None:
    data = attached(pairs(shards, batch_size=1, video_negative=Shuffle(), resample_each_epoch=True))
    loader = data.train_dataloader()
    first, second, again = (
        frames_by_key(list(pass_of_loader)) for pass_of_loader in (loader, loader, data.train_dataloader())
    )
    moved = [name for name in first if name[1] == "video_negative" and not torch.equal(first[name], second[name])]
    assert len(moved) > COUNT / 2
    assert not all(torch.equal(second[name], again[name]) for name in second)
    assert data.resample_each_epoch


def test_a_partner_is_always_another_video_and_each_is_met(shards: Path) -> None:
    import numpy as np

    index = Index.read(shards)
    partners = Partners.of(index)
    for position, entry in enumerate(index.entries):
        drawn = {partners.draw(position, np.random.default_rng(seed)) for seed in range(200)}
        others = {
            p for p, candidate in enumerate(index.entries) if candidate.facts["video_id"] != entry.facts["video_id"]
        }
        assert drawn == others


def test_a_video_under_two_names_is_one_video(tmp_path: Path) -> None:
    import numpy as np

    # b has a's file under another name, c has b's name for another file, and only d is another video.
    named = {"a": ("x.mp4", 0), "b": ("../x.mp4", 0), "c": ("../x.mp4", 1), "d": ("y.mp4", 2)}
    videos = [annotated(key, name, {"mp4": numbered_video(first)}) for key, (name, first) in named.items()]
    index = write_shards([(row.key, members) for row, members in videos], tmp_path / "all")
    partners = Partners.of(index)
    drawn = [{partners.draw(position, np.random.default_rng(seed)) for seed in range(50)} for position in range(4)]
    assert drawn == [{3}, {3}, {3}, {0, 1, 2}]
    write_shards([(row.key, members) for row, members in videos[:2]], tmp_path / "two")
    with pytest.raises(ValueError, match="all samples are of one"):
        attached(pairs(tmp_path / "two.index.json", video_negative=OtherVideo()))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_fit_goes_on_with_the_next_sample(shards: Path, tmp_path: Path, workers: int) -> None:
    whole, first, second = Recorder(), Recorder(), Recorder()
    settings = {"val": str(shards), "num_workers": workers}
    trainer(tmp_path, max_steps=14).fit(whole, pairs(shards, **settings))
    checkpoint = ModelCheckpoint(tmp_path, filename="middle", every_n_train_steps=8, save_top_k=-1)
    trainer(tmp_path, max_steps=8, enable_checkpointing=True, callbacks=[checkpoint]).fit(
        first, pairs(shards, **settings)
    )
    trainer(tmp_path, max_steps=14).fit(second, pairs(shards, **settings), ckpt_path=tmp_path / "middle.ckpt")
    assert len(whole.seen) == 14
    assert first.seen + second.seen == whole.seen
    epochs = [key for epoch, keys in whole.seen for key in keys]
    assert sorted(epochs[:COUNT]) == sorted(epochs[COUNT : 2 * COUNT]) == [f"s{number:02d}" for number in range(COUNT)]
    assert sorted(whole.validated[-COUNT:]) == sorted(epochs[:COUNT])


def test_a_checkpoint_that_an_exception_wrote_gives_its_batch_again(shards: Path) -> None:
    progress = SimpleNamespace(ready=3, processed=2)
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(current=progress)), max_batches=99)
    data = attached(pairs(shards), fit_loop=loop)
    stream = iter(data.train_dataloader())
    batches = [next(stream) for _ in range(3)]
    resumed = attached(pairs(shards))
    resumed.load_state_dict(data.state_dict())
    assert next(iter(resumed.train_dataloader())).keys == batches[2].keys


def test_predict_shows_the_views_of_training_once_each(shards: Path, tmp_path: Path) -> None:
    data = pairs(shards, batch_size=4, video_negative=Noise())
    batches = trainer(tmp_path).predict(Recorder(), data)
    assert batches is not None
    assert [batch.mask.sum() for batch in batches] == [4, 4, 3]
    predicted = frames_by_key(batches)  # type: ignore[arg-type]
    trained = frames_by_key(list(attached(pairs(shards, batch_size=1, video_negative=Noise())).train_dataloader()))
    assert predicted.keys() == trained.keys()
    assert all(torch.equal(predicted[name], trained[name]) for name in predicted)


def test_ranks_share_the_samples_and_agree_on_denominators(shards: Path) -> None:
    seen = []
    for rank in range(2):
        share = {"num_replicas": 2, "rank": rank}
        data = attached(pairs(shards), stage="predict", distributed_sampler_kwargs=share)
        batches = list(data.predict_dataloader())
        assert len(batches) == 3
        seen += [key for batch in batches for key, there in zip(batch.keys, batch.mask, strict=True) if there]
        assert batches[0].denominators["clip"] == 1.0  # s01, s02 of the first four, over two ranks
    assert sorted(seen) == [f"s{number:02d}" for number in range(COUNT)]


def test_views_fingerprint_tells_what_the_views_depend_on(shards: Path) -> None:
    made = attached(pairs(shards)).views_fingerprint()
    assert made == attached(pairs(shards, batch_size=3, num_workers=1)).views_fingerprint("predict")
    for change in (
        {"seed": 6},
        {"num_frames": 8},
        {"object_negative": RoiMask()},
        {"object_negative": RoiMask(9)},
        {"resample_each_epoch": True},
    ):
        assert attached(pairs(shards, **change)).views_fingerprint() != made
    assert made["fingerprint"] == Index.read(shards).fingerprint


def cropped(right: float) -> Recorder:
    """A method whose policy sees the columns from 8 on, or to 8 only; the objects are in columns 4 to 11."""
    module = Recorder()
    module.policy = Eye(Box(0, 0, right, 32) if right < 48 else Box(8, 0, 40, 32))
    return module


def test_denominators_and_views_are_of_what_the_policy_sees(shards: Path) -> None:
    for right, least in ((8, 8.0), (7, 0.0), (48, 8.0)):  # the policy sees half, three of eight, and half
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            data = attached(pairs(shards, batch_size=COUNT), lightning_module=cropped(right))
        batch = next(iter(data.train_dataloader()))
        assert batch.denominators["object"] == (least or 1.0)
        assert len(batch.rows("object", "chosen")) == least
        assert len(batch.rows("object_negative", "chosen")) == least
        assert any("8 of 8 samples with boxes take no part" in str(warning.message) for warning in caught) == (
            not least
        )
        if right == 8:
            frames = frames_by_key([batch])
            negative, positive = frames["s01", "object_negative"], frames["s01", "object"]
            assert torch.equal(negative[..., 8:], positive[..., 8:])
            assert not torch.equal(negative[..., :8], positive[..., :8])


def test_views_of_a_cropped_frame_have_a_fingerprint_of_their_own(shards: Path) -> None:
    plain = attached(pairs(shards)).views_fingerprint()
    half = attached(pairs(shards), lightning_module=cropped(8)).views_fingerprint()
    assert half["negatives"]["object"].pop("visible") == {"48x32": [0, 0, 8, 32]}
    assert half == plain
    padded = cropped(48)
    padded.policy = Eye()
    padded.policy.frame_fit = "pad"
    assert attached(pairs(shards), lightning_module=padded).views_fingerprint() != plain


def test_what_workers_get_holds_no_policy(shards: Path) -> None:
    module = cropped(8)
    module.policy.unpicklable = lambda: None  # type: ignore[attr-defined]
    pickle.dumps(attached(pairs(shards), lightning_module=module).recipe("train"))


def test_several_index_files_are_read_as_one(shards: Path, tmp_path: Path) -> None:
    row, members = annotated("another")
    write_shards([(row.key, members)], tmp_path / "more")
    data = attached(pairs(shards, train=[str(shards), str(tmp_path / "more.index.json")], batch_size=12))
    assert "another" in next(iter(data.train_dataloader())).keys


def test_a_config_chooses_negatives_by_name_and_level() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(VistaPairs, "data")
    chosen = {"class_path": "datamodules.vista.negatives.Noise", "init_args": {"strength": 0.5}}
    data = parser.instantiate(parser.parse_object({"data": {"video_negative": chosen}})).data
    assert data.negatives.video.strength == 0.5
    assert type(data.negatives.object).__name__ == "RoiMove"
    for wrong in ("datamodules.vista.negatives.RoiMove", "datamodules.vista.negatives.RelevantSegment"):
        with pytest.raises(ArgumentError):
            parser.parse_object({"data": {"video_negative": {"class_path": wrong}}})


def test_what_workers_get_can_be_sent_to_a_spawned_process(shards: Path) -> None:
    loader = attached(pairs(shards, batch_size=3)).train_dataloader()
    recipe = pickle.loads(pickle.dumps(loader.recipe))  # noqa: S301
    assert recipe.members(1) == ["json", "mp4"]


@pytest.mark.slow
def test_spawned_workers_give_the_same_batches(shards: Path) -> None:
    plain = list(attached(pairs(shards)).train_dataloader())
    spawned = list(attached(pairs(shards, num_workers=2, multiprocessing_context="spawn")).train_dataloader())
    assert [batch.keys for batch in plain] == [batch.keys for batch in spawned]
    first, second = frames_by_key(plain), frames_by_key(spawned)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_short_video_repeats_frames(tmp_path: Path) -> None:
    row, members = annotated("a", members={"mp4": numbered_video(0, 3)}, event=None, boxes=())
    write_shards([(row.key, members)], tmp_path / "short")
    data = attached(pairs(tmp_path / "short.index.json", num_frames=8, batch_size=1))
    (batch,) = list(data.train_dataloader())
    assert [view.frames.shape[0] for view in batch.views] == [8, 8]
