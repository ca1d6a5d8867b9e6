"""Rows of (video, question, chosen answer): what is read, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.toy.vista.annotation import ANSWERED
from datamodules.annotation.answered_videos import AnsweredVideos
from datamodules.video.codec import decode_frames
from tests.support.annotated_videos import timed_video
from tests.support.answered_videos import answered_videos, rewrite


def test_frames_are_spread_evenly_and_as_shown(tmp_path: Path) -> None:
    data = answered_videos(tmp_path, 2, num_frames=4, batch_size=2)
    (batch,) = data.predict_dataloader()
    for row, video in zip(data.rows, batch.videos, strict=True):
        assert video.row is row
        assert video.indices == [0, 5, 10, 15]
        assert torch.equal(video.frames, decode_frames(row.path, [0, 5, 10, 15]))
        assert (video.time(2), video.video.frames) == (10 / 8, 16)


def test_a_short_video_is_read_frame_by_frame_and_none_twice(tmp_path: Path) -> None:
    data = answered_videos(tmp_path, 1, num_frames=50)
    (batch,) = data.predict_dataloader()
    assert batch.videos[0].indices == list(range(16))


def test_what_is_done_is_left_out(tmp_path: Path) -> None:
    data = answered_videos(tmp_path, 3)
    data.skip([data.keys[1]])
    keys = [video.row.key for batch in data.predict_dataloader() for video in batch.videos]
    assert keys == [data.keys[0], data.keys[2]]
    data.skip(data.keys)
    assert data.predict_dataloader() == []


def test_the_fingerprint_is_of_rows_videos_and_frames(tmp_path: Path) -> None:
    before = answered_videos(tmp_path, 2).fingerprint
    assert answered_videos(tmp_path).fingerprint == before
    assert answered_videos(tmp_path, num_frames=8).fingerprint != before
    rewrite(tmp_path, {1: {"question": "Which way?"}})
    assert answered_videos(tmp_path).fingerprint != before


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"video": "none.mp4"}, "video: there is no file .*none.mp4"),
        ({"video": None}, "video: is missing"),
        ({"question": " "}, "question: is empty"),
        ({"chosen": 3}, "chosen: is not text but 3"),
        ({"event": [1]}, r"event: is not \[start, end\]"),
        ({"boxes": [{"x": 1}]}, r"boxes\[0\]: is not numbers"),
        ({"facts": [1]}, "facts: is not an object of names and values"),
        ({"object": 7}, "object: is not text"),
        ({"answer": "x"}, "answer: is no field of this format; there are video, .*, object"),
    ],
)
def test_a_faulty_row_stops_all_or_is_left_out(tmp_path: Path, fields: dict[str, Any], fault: str) -> None:
    data = answered_videos(tmp_path, 3)
    rewrite(tmp_path, {1: fields})
    with pytest.raises(ValueError, match=f"has 1 faults.*\n  row 2, {fault}"):
        answered_videos(tmp_path)
    left = answered_videos(tmp_path, on_bad_sample="skip")
    assert left.keys == [data.keys[0], data.keys[2]]
    assert list(left.bad_samples) == [data.keys[1]]


def test_a_row_twice(tmp_path: Path) -> None:
    answered_videos(tmp_path, 2)
    rows = (tmp_path / ANSWERED).read_text()
    (tmp_path / ANSWERED).write_text(rows + rows)
    with pytest.raises(ValueError, match="row 3, chosen: repeats row 1: the same video, question, chosen, rejected"):
        answered_videos(tmp_path)


@pytest.mark.parametrize("damage", ["text", "rate"])
def test_an_unreadable_video_stops_all_or_is_counted(tmp_path: Path, damage: str) -> None:
    data = answered_videos(tmp_path, 2)
    content, fault = {
        "text": (b"no video", "undecodable video"),
        "rate": (timed_video([0, 100, 200, 900, 1000]), "has no constant frame rate"),
    }[damage]
    data.rows[1].path.write_bytes(content)
    with pytest.raises(ValueError, match=f"row {data.keys[1]}, video .*: {fault}.*data.on_bad_sample: skip"):
        list(answered_videos(tmp_path).predict_dataloader())
    left = answered_videos(tmp_path, on_bad_sample="skip")
    keys = [video.row.key for batch in left.predict_dataloader() for video in batch.videos]
    assert keys == [data.keys[0]]
    assert fault in left.bad_samples[data.keys[1]]


def test_no_folder_no_rows_no_frames(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no such folder; give data\.videos"):
        answered_videos(tmp_path, 1, videos=str(tmp_path / "none"))
    (tmp_path / ANSWERED).write_text(json.dumps({"video": "none.mp4", "question": "?", "chosen": "A."}) + "\n")
    with pytest.raises(ValueError, match="none of its 1 rows can be used"):
        answered_videos(tmp_path, on_bad_sample="skip")
    with pytest.raises(ValueError, match="num_frames"):
        AnsweredVideos("rows.jsonl", num_frames=1)
