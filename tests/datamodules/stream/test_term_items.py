"""The line of each data set at the start of a run: its samples, and the items of every term in use."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datamodules.schemas import write_shards
from datamodules.stream.term_items import item_lines
from tests.support.annotated_videos import annotated, numbered_video
from tests.support.pairs_harness import attached, eleven_samples, pairs


def test_every_data_set_has_a_line_with_what_is_read_of_it() -> None:
    terms = {"response": np.ones(5, bool), "preference": np.array([3, 0, 2, 4, 0]), "clip": np.zeros(5, bool)}
    data_sets = {"a.index.json": 2, "b.index.json": 3}
    assert item_lines(data_sets, terms, None, ("preference", "clip", "other")) == [
        "a.index.json: 2 samples: preference 3, clip 0",
        "b.index.json: 3 samples: preference 6, clip 0",
    ]
    assert item_lines(data_sets, terms, np.array([3, 0]), ("response", "preference")) == [
        "a.index.json: 1 of 2 samples: response 1, preference 3",
        "b.index.json: 1 of 3 samples: response 1, preference 4",
    ]


def test_a_line_for_each_data_set_of_training_and_validation(tmp_path: Path) -> None:
    shards, more = eleven_samples(tmp_path), write_named(tmp_path, "more")
    active = ("response", "video", "clip", "object")
    lines = attached(pairs(shards, val=str(shards))).item_lines(active)
    line = "11 samples: response 11, video 11, clip 7, object 8"
    assert lines == [f"train: {line}", f"val: {line}"]
    lines = attached(pairs(shards, train=[str(shards), more])).item_lines(active)
    assert lines == [f"train, {shards}: {line}", f"train, {more}: 2 samples: response 2, video 2, clip 0, object 2"]


def write_named(folder: Path, name: str) -> str:
    video = {"mp4": numbered_video(3)}
    samples = [annotated(f"{name}{number}", f"{name}{number}", video, event=None) for number in range(2)]
    write_shards([(row.key, members) for row, members in samples], folder / name)
    return str(folder / f"{name}.index.json")
