"""`prepare toy-videos`: rows say what their videos show but no speed, and splits share nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.dense.rows import VideoRow
from datamodules.prepare.toy_videos import prepare_toy_videos, scene_of
from datamodules.prepare.verify import verify
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.toy_world.motion_measures import measure
from datamodules.toy_world.motion_world import NUM_FRAMES, parse_motion, render_motion
from datamodules.video.codec import decode_frames


def test_rows_say_what_their_videos_show(tmp_path: Path) -> None:
    prepare_toy_videos(str(tmp_path / "train"), "train", num_videos=9, samples_per_shard=4)
    index = tmp_path / "train.index.json"
    assert verify(str(index)) == []
    samples = SampleReader(Index.read(index, "vidpref/videos"))
    rows = []
    for position in range(9):
        members = samples.read(position)
        row = VideoRow.from_json(json.loads(members["json"]))
        frames = decode_frames(members["mp4"], range(NUM_FRAMES))
        motion = parse_motion(row.caption)
        assert motion.speed is None
        assert measure(frames, motion).quality > 0.99  # so nothing was lost in encoding
        scene = scene_of(row.key)
        assert scene.motion == motion
        assert np.array_equal(frames.permute(0, 2, 3, 1).numpy(), render_motion(scene))
        rows.append(row)
    assert {row.source for row in rows} == {"toy/motion"}
    assert (tmp_path / "train.txt").read_text().splitlines() == list(dict.fromkeys(row.caption for row in rows))


def test_equal_seeds_give_equal_bytes_and_splits_share_no_video(tmp_path: Path) -> None:
    for name, split, seed in (("a", "train", 3), ("b", "train", 3), ("c", "val", 3), ("d", "train", 4)):
        prepare_toy_videos(str(tmp_path / name), split, num_videos=2, seed=seed)  # type: ignore[arg-type]
    first, again, other_split, other_seed = (Index.read(tmp_path / f"{name}.index.json") for name in "abcd")
    assert first.fingerprint == again.fingerprint
    assert len({index.fingerprint for index in (first, other_split, other_seed)}) == 3
    assert len({entry.key for index in (first, other_split, other_seed) for entry in index.entries}) == 6


def test_longer_videos_begin_as_shorter_ones(tmp_path: Path) -> None:
    for seconds in (1, 2):
        prepare_toy_videos(str(tmp_path / f"{seconds}"), num_videos=1, seconds=seconds)
    shown = []
    for seconds in (1, 2):
        members = SampleReader(Index.read(tmp_path / f"{seconds}.index.json", "vidpref/videos")).read(0)
        row = VideoRow.from_json(json.loads(members["json"]))
        assert row.video.frames == 8 * seconds + 1
        shown.append(decode_frames(members["mp4"], range(9)))
    assert torch.equal(*shown)


def test_a_key_of_something_else_has_no_scene() -> None:
    with pytest.raises(ValueError, match="is no key of `vidpref prepare toy-videos`"):
        scene_of("dog-17")


def test_no_videos_and_an_output_that_is_there_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="num_videos is 0"):
        prepare_toy_videos(str(tmp_path / "none"), num_videos=0)
    with pytest.raises(ValueError, match="seconds 0"):
        prepare_toy_videos(str(tmp_path / "none"), num_videos=1, seconds=0)
    prepare_toy_videos(str(tmp_path / "some"), num_videos=1)
    with pytest.raises(ValueError, match="are there already"):
        prepare_toy_videos(str(tmp_path / "some"), num_videos=1)
