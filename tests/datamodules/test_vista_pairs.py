from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from annotated_videos import ALL_NEEDS, annotated, numbered_video
from jsonargparse import ArgumentError, ArgumentParser
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from shard_samples import flip_byte

from datamodules.negatives import Noise, OtherVideo, OtherVideoSegment, RoiMask, Shuffle
from datamodules.samples import Needs, VistaBatch
from datamodules.shards import Index, write_shards
from datamodules.view_stream import Partners
from datamodules.vista_pairs import VistaPairs

COUNT = 11


class Recorder(LightningModule):
    """Stands in for a method: says what it needs, and notes what it was given."""

    def __init__(self, needs: Needs = ALL_NEEDS) -> None:
        super().__init__()
        self.asked = needs
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, list[str]]] = []
        self.validated: list[str] = []

    def needs(self) -> Needs:
        return self.asked

    def training_step(self, batch: VistaBatch, batch_idx: int) -> torch.Tensor:
        self.seen.append((batch.epoch, batch.keys))
        return self.weight * 1.0

    def validation_step(self, batch: VistaBatch, batch_idx: int) -> None:
        self.validated += [key for key, there in zip(batch.keys, batch.mask.tolist(), strict=True) if there]

    def predict_step(self, batch: VistaBatch, batch_idx: int) -> VistaBatch:
        return copy.copy(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven samples of six videos; some lack a clip, a box or an irrelevant answer."""
    folder = tmp_path_factory.mktemp("shards")
    samples = []
    for number in range(COUNT):
        lacks: dict[str, Any] = {}
        if number % 3 == 0:
            lacks["event"] = None
        if number % 4 == 0:
            lacks["boxes"] = ()
        if number % 5 == 0:
            lacks["irrelevant"] = None
        samples.append(annotated(f"s{number:02d}", f"video{number // 2}", **lacks))
    write_shards([(row.key, members) for row, members in samples], folder / "train", samples_per_shard=4)
    return folder / "train.index.json"


def pairs(shards: Path, **settings: Any) -> VistaPairs:
    return VistaPairs(**({"train": str(shards), "num_frames": 4, "batch_size": 2, "seed": 5} | settings))


def attached(data: VistaPairs, needs: Needs = ALL_NEEDS, stage: str = "fit", **changes: Any) -> VistaPairs:
    """As if a trainer had called `setup`, without the cost of one."""
    trainer: dict[str, Any] = {
        "lightning_module": Recorder(needs),
        "accumulate_grad_batches": 1,
        "limit_train_batches": 1.0,
        "distributed_sampler_kwargs": None,
        "strategy": SimpleNamespace(root_device=torch.device("cpu")),
    }
    data.trainer = SimpleNamespace(**(trainer | changes))  # type: ignore[assignment]
    data.setup(stage)
    return data


def trainer(folder: Path, **settings: Any) -> Trainer:
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": folder,
        "use_distributed_sampler": False,
    }
    return Trainer(**(quiet | settings))


def frames_by_key(batches: Sequence[VistaBatch]) -> dict[tuple[str, str], torch.Tensor]:
    return {
        (batch.keys[view.sample], view.name): view.frames
        for batch in batches
        for view in batch.views
        if batch.mask[view.sample]
    }


def test_a_batch_holds_views_answers_masks_and_denominators(shards: Path) -> None:
    data = attached(pairs(shards, batch_size=COUNT))
    batch = next(iter(data.train_dataloader()))
    assert sorted(batch.keys) == [f"s{number:02d}" for number in range(COUNT)]
    assert batch.mask.tolist() == [True] * COUNT
    found: dict[str, set[str]] = {key: set() for key in batch.keys}
    for view in batch.views:
        found[batch.keys[view.sample]].add(view.name)
        assert view.frames.shape == (4, 3, 32, 48)
    for number in range(COUNT):
        key = f"s{number:02d}"
        assert ("clip" in found[key]) == ("clip_negative" in found[key]) == (number % 3 != 0)
        assert ("object" in found[key]) == (number % 4 != 0)
        assert (batch.keys.index(key) in batch.rows("original", "irrelevant")) == (number % 5 != 0)
    assert batch.normalizers == {
        "response": 11.0,
        "token": 11.0,
        "supervised": 11.0,
        "video": 11.0,
        "temporal": 7.0,
        "object": 8.0,
    }
    assert len(batch.rows("clip_negative", "chosen")) == batch.normalizers["temporal"]


def test_the_module_decides_which_views_are_made(shards: Path) -> None:
    data = attached(pairs(shards), {"original": ("chosen",)})
    for batch in data.train_dataloader():
        assert {view.name for view in batch.views} == {"original"}
        assert all(list(view.answers) == ["chosen"] for view in batch.views)


def test_every_slot_has_a_view_even_where_no_needed_one_exists(shards: Path) -> None:
    data = attached(pairs(shards, batch_size=COUNT), {"object": ("chosen",), "object_negative": ("chosen",)})
    batch = next(iter(data.train_dataloader()))
    assert {view.sample for view in batch.views} == set(range(COUNT))
    assert len(batch.rows("object", "chosen")) == batch.normalizers["object"] == 8


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
    first, second, again = (frames_by_key(list(one)) for one in (loader, loader, data.train_dataloader()))
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
        others = {p for p, one in enumerate(index.entries) if one.facts["video_id"] != entry.facts["video_id"]}
        assert drawn == others


def test_one_video_alone_has_no_partner(tmp_path: Path) -> None:
    samples = [annotated(key, "same") for key in ("a", "b")]
    write_shards([(row.key, members) for row, members in samples], tmp_path / "one")
    for negative in ({"video_negative": OtherVideo()}, {"clip_negative": OtherVideoSegment()}):
        with pytest.raises(ValueError, match=r"shows another video, but all samples are of one"):
            attached(pairs(tmp_path / "one.index.json", **negative))
    attached(pairs(tmp_path / "one.index.json"))


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
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(current=progress)))
    data = attached(pairs(shards), fit_loop=loop)
    stream = iter(data.train_dataloader())
    batches = [next(stream) for _ in range(3)]
    resumed = attached(pairs(shards))
    resumed.load_state_dict(data.state_dict())
    assert next(iter(resumed.train_dataloader())).keys == batches[2].keys


def test_resuming_with_another_seed_or_other_shards_is_refused(shards: Path, tmp_path: Path) -> None:
    progress = SimpleNamespace(ready=1, processed=1)
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(current=progress)))
    data = attached(pairs(shards), fit_loop=loop)
    assert data.state_dict() == {}
    next(iter(data.train_dataloader()))
    state = data.state_dict()
    samples = [annotated(f"t{number}") for number in range(4)]
    write_shards([(row.key, members) for row, members in samples], tmp_path / "other")
    for changed, name in ((pairs(shards, seed=6), "seed"), (pairs(tmp_path / "other.index.json"), "fingerprint")):
        attached(changed).load_state_dict(state)
        with pytest.raises(ValueError, match=f"cannot resume.*{name}"):
            changed.train_dataloader()


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
        assert batches[0].normalizers["temporal"] == 1.0  # s01, s02 of the first four, over two ranks
    assert sorted(seen) == [f"s{number:02d}" for number in range(COUNT)]


def test_accumulation_must_divide_the_limit(shards: Path) -> None:
    data = attached(pairs(shards, batch_size=1), accumulate_grad_batches=2, limit_train_batches=3)
    with pytest.raises(ValueError, match="give a multiple"):
        data.train_dataloader()
    data = attached(pairs(shards, batch_size=1), accumulate_grad_batches=2, limit_train_batches=4)
    assert len(data.train_dataloader()) == 10


def test_views_fingerprint_tells_what_the_views_depend_on(shards: Path) -> None:
    made = pairs(shards).views_fingerprint()
    assert made == pairs(shards, batch_size=3, num_workers=1).views_fingerprint("predict")
    for change in (
        {"seed": 6},
        {"num_frames": 8},
        {"object_negative": RoiMask()},
        {"object_negative": RoiMask(9)},
        {"resample_each_epoch": True},
    ):
        assert pairs(shards, **change).views_fingerprint() != made
    assert made["fingerprint"] == Index.read(shards).fingerprint


def test_several_index_files_are_read_as_one(shards: Path, tmp_path: Path) -> None:
    row, members = annotated("another")
    write_shards([(row.key, members)], tmp_path / "more")
    data = attached(pairs(shards, train=[str(shards), str(tmp_path / "more.index.json")], batch_size=12))
    assert "another" in next(iter(data.train_dataloader())).keys


def test_a_config_chooses_negatives_by_name_and_level() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(VistaPairs, "data")
    chosen = {"class_path": "datamodules.negatives.Noise", "init_args": {"strength": 0.5}}
    data = parser.instantiate(parser.parse_object({"data": {"video_negative": chosen}})).data
    assert data.negatives.video.strength == 0.5
    assert type(data.negatives.object).__name__ == "RoiMove"
    for wrong in ("datamodules.negatives.RoiMove", "datamodules.negatives.RelevantSegment"):
        with pytest.raises(ArgumentError):
            parser.parse_object({"data": {"video_negative": {"class_path": wrong}}})


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    samples = [annotated(key) for key in ("good", "altered", "undecodable")]
    samples[2][1]["mp4"] = b"no video at all"
    index = write_shards([(row.key, members) for row, members in samples], tmp_path / "bad")
    flip_byte(index, 1)
    return tmp_path / "bad.index.json"


def test_a_bad_sample_stops_the_run_naming_shard_and_key(damaged: Path) -> None:
    loader = attached(pairs(damaged, predict=str(damaged), batch_size=1), stage="predict").predict_dataloader()
    batches = iter(loader)
    assert next(batches).keys == ["good"]
    with pytest.raises(ValueError, match=r"bad-000000\.tar.*'altered'.*altered"):
        next(batches)


def test_a_skipped_sample_is_masked_and_counted(damaged: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = attached(pairs(damaged, on_bad_sample="skip", batch_size=3), stage="predict")
    with caplog.at_level(logging.WARNING):
        (batch,) = list(data.predict_dataloader())
    assert batch.mask.tolist() == [True, False, False]
    assert list(batch.rows("original", "chosen")) == [0]
    assert set(data.bad_samples) == {"altered", "undecodable"}
    assert "undecodable.mp4: undecodable video" in caplog.text
    limited = attached(pairs(damaged, on_bad_sample="skip", max_bad_samples=1, batch_size=3), stage="predict")
    with pytest.raises(ValueError, match="max_bad_samples"):
        list(limited.predict_dataloader())


def test_what_is_wrong_is_said_before_training(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.train is not given"):
        attached(VistaPairs())
    with pytest.raises(ValueError, match=r"data\.val is not given"):
        attached(pairs(shards), stage="validate")
    with pytest.raises(ValueError, match="no such index"):
        attached(pairs(tmp_path / "none.index.json"))
    few = attached(pairs(shards, num_workers=6), distributed_sampler_kwargs={"num_replicas": 2, "rank": 0})
    with pytest.raises(ValueError, match="fewer than 2 ranks x 6 workers"):
        few.train_dataloader()
    for wrong in ({"num_frames": 0}, {"batch_size": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match="give"):
            pairs(shards, **wrong)
    assert attached(pairs(shards)).val_dataloader() == []


def test_an_index_with_an_impossible_event_or_box_is_refused(tmp_path: Path) -> None:
    row, members = annotated("a")
    facts = {
        "video_id": "v", "frames": 32, "fps": 8.0, "width": 48, "height": 32, "event": [3.0, 5.0],
        "boxes": [[4, 4, 0, 8, None]], "irrelevant": True, "clip": None, "clip_negative": None, "key_frame": False,
    }  # fmt: skip
    write_shards([(row.key, members)], tmp_path / "odd", facts_of=lambda key, record, suffixes: facts)
    with pytest.raises(ValueError, match=r"(?s)sample 'a': event.*sample 'a': boxes\[0\]: has no area"):
        attached(pairs(tmp_path / "odd.index.json"))


def test_what_workers_get_can_be_sent_to_a_spawned_process(shards: Path) -> None:
    loader = attached(pairs(shards, batch_size=3)).train_dataloader()
    made = pickle.loads(pickle.dumps((loader.make_sample, loader.collate, loader.members)))  # noqa: S301
    assert made[2](loader.index.entries[1]) == ["json", "mp4"]


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
