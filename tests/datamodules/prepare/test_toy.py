"""`prepare toy`: equal seeds give equal bytes, splits share nothing, and what is written is what readers expect."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from datamodules.prepare.toy import prepare_toy
from datamodules.prepare.verify import verify
from datamodules.questions.video_hallucer import VideoHallucerQuestions
from datamodules.shards.index import Index
from datamodules.toy_world.questions import DESCRIBE, SUBSETS
from datamodules.toy_world.rows import Mixture
from datamodules.video.codec import probe
from datamodules.vista.samples import PreferenceRow


def rows_of(index: Path) -> list[PreferenceRow]:
    rows = []
    for shard in Index.read(index).shards:
        with tarfile.open(index.parent / Path(shard.address).name) as tar:
            for member in tar:
                if member.name.endswith(".json"):
                    content = tar.extractfile(member)
                    assert content is not None
                    rows.append(PreferenceRow.from_json(json.load(content)))
    return rows


def test_preferences_are_sound_shards_with_event_and_boxes(tmp_path: Path) -> None:
    prepare_toy(str(tmp_path / "train"), "train", num_videos=10, samples_per_shard=4)
    index = tmp_path / "train.index.json"
    assert verify(str(index)) == []
    rows = rows_of(index)
    assert len({row.video_id for row in rows}) == len(rows) == 10
    assert all(row.event and row.boxes and row.irrelevant and row.faults() == [] for row in rows)
    assert [row.source for row in rows[:4]] == [f"toy/{subset}" for subset in SUBSETS]


def test_equal_seeds_give_equal_bytes_and_splits_share_no_video(tmp_path: Path) -> None:
    for folder, split, seed in (("a", "train", 3), ("b", "train", 3), ("c", "val", 3), ("d", "train", 4)):
        (tmp_path / folder).mkdir()
        prepare_toy(str(tmp_path / folder / "toy"), split, num_videos=4, seed=seed)  # type: ignore[arg-type]
    first, again, other_split, other_seed = (Index.read(tmp_path / name / "toy.index.json") for name in "abcd")
    assert first.fingerprint == again.fingerprint
    assert len({index.fingerprint for index in (first, other_split, other_seed)}) == 3
    keys = [entry.key for index in (first, other_split, other_seed) for entry in index.entries]
    assert len(set(keys)) == len(keys)


def test_pretraining_asks_several_questions_a_video(tmp_path: Path) -> None:
    prepare_toy(str(tmp_path / "pre"), "pretrain", num_videos=12, mixture=Mixture(questions=2, single=0.5))
    rows = rows_of(tmp_path / "pre.index.json")
    assert len(rows) == 24
    assert {row.video.frames for row in rows} == {8, 16}
    assert all(row.faults() == [] for row in rows)


def test_captions_bring_the_model_to_train(tmp_path: Path) -> None:
    prepare_toy(str(tmp_path / "captions"), "captions", num_videos=3)
    assert {row.question for row in rows_of(tmp_path / "captions.index.json")} == {DESCRIBE}
    assert (tmp_path / "captions-untrained" / "model.safetensors").is_file()


def test_the_benchmark_folder_is_read_by_the_benchmark(tmp_path: Path) -> None:
    folder = tmp_path / "test"
    prepare_toy(str(folder), "test", num_videos=8)
    data = VideoHallucerQuestions(str(folder), str(folder / "videos"), num_frames=4)
    data.setup("test")
    assert sorted(annotation.subset for annotation in data.annotations) == sorted(SUBSETS)
    pairs = [pair for annotation in data.annotations for pair in annotation.pairs]
    assert len(pairs) == 8
    for pair in pairs:
        assert (pair["basic"]["answer"], pair["hallucination"]["answer"]) == ("yes", "no")
        assert pair["basic"]["video"] == pair["hallucination"]["video"]
        assert probe(folder / "videos" / pair["basic"]["video"]).frames == 16


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    for output, split in (("shards", "val"), ("questions", "test")):
        prepare_toy(str(tmp_path / output), split, num_videos=4)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="are there already"):
            prepare_toy(str(tmp_path / output), split, num_videos=4)  # type: ignore[arg-type]


def test_no_videos_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_videos is 0"):
        prepare_toy(str(tmp_path / "none"), num_videos=0)
