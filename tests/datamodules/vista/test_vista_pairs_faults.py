from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from datamodules.schemas import write_shards
from datamodules.vista.span_negatives import OtherVideo, OtherVideoSegment
from datamodules.vista.vista_pairs import VistaPairs
from tests.support.annotated_videos import annotated
from tests.support.pairs_harness import attached, eleven_samples, pairs
from tests.support.shard_samples import flip_byte


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return eleven_samples(tmp_path_factory.mktemp("shards"))


def test_one_video_alone_has_no_partner(tmp_path: Path) -> None:
    samples = [annotated(key, "same") for key in ("a", "b")]
    write_shards([(row.key, members) for row, members in samples], tmp_path / "one")
    for negative in ({"video_negative": OtherVideo()}, {"clip_negative": OtherVideoSegment()}):
        with pytest.raises(ValueError, match=r"shows another video, but all samples are of one"):
            attached(pairs(tmp_path / "one.index.json", **negative))
    attached(pairs(tmp_path / "one.index.json"))


def test_resuming_with_another_seed_or_other_shards_is_refused(shards: Path, tmp_path: Path) -> None:
    progress = SimpleNamespace(ready=1, processed=1)
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(current=progress)), max_batches=99)
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


def test_accumulation_must_divide_the_limit(shards: Path) -> None:
    data = attached(pairs(shards, batch_size=1), accumulate_grad_batches=2, limit_train_batches=3)
    with pytest.raises(ValueError, match="give a multiple"):
        data.train_dataloader()
    data = attached(pairs(shards, batch_size=1), accumulate_grad_batches=2, limit_train_batches=4)
    assert len(data.train_dataloader()) == 10


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
