"""Pixels as a player shows them: orientation, shape of the pixels, colours."""

from __future__ import annotations

import gc
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from datamodules.prepare.own_videos import prepare_jsonl
from datamodules.prepare.verify import verify
from datamodules.prepare.videos import prepare_videos
from datamodules.shards.byte_reader import BadSampleError
from datamodules.shards.sample_reader import SampleReader
from datamodules.video.codec import decode_frames, encode_mp4, probe
from datamodules.video.facts import VideoFacts
from tests.support.pairs_harness import attached, pairs
from tests.support.shown_videos import CASES, MATRICES, plain_video, with_matrix
from tests.support.small_clips import sample

#: One colour as BT.709 stores it, and what BT.601 would make of it.
STORED, AS_709, AS_601 = (83, 134, 196), (199, 39, 90), (186, 19, 90)
#: The square of ok.mp4, left, top, right, bottom.
SQUARE = (10, 10, 60, 60)


def red_square(frame: torch.Tensor) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what is red."""
    rows, columns = ((frame[0] > 128) & (frame[1] < 128)).nonzero(as_tuple=True)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def colour(video: bytes) -> list[int]:
    return decode_frames(video, [0])[0, :, 8, 8].tolist()


@pytest.mark.parametrize("name", MATRICES)
def test_each_orientation_shows_every_pixel_at_its_place(name: str) -> None:
    a, b, c, d = matrix = MATRICES[name]
    frames = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 6, 10), dtype=np.uint8))
    y, x = torch.meshgrid(torch.arange(6), torch.arange(10), indexing="ij")
    column, row = a * x + c * y, b * x + d * y
    column, row = column - column.min(), row - row.min()
    expected = torch.zeros(3, int(row.max()) + 1, int(column.max()) + 1, dtype=torch.uint8)
    expected[:, row, column] = frames[1]
    video = with_matrix(encode_mp4(frames, 8, lossless=True), matrix)
    assert torch.equal(decode_frames(video, [1])[0], expected)
    assert probe(video) == VideoFacts(2, 8.0, expected.shape[2], expected.shape[1])


@pytest.mark.parametrize(
    ("name", "size", "square"),
    [
        ("ok", (320, 240), SQUARE),
        ("rot90", (240, 320), (180, 10, 230, 60)),
        ("hflip", (320, 240), (260, 10, 310, 60)),
        ("sar", (320, 240), (20, 10, 120, 60)),
    ],
)
def test_sizes_and_boxes_are_those_that_a_player_shows(
    name: str, size: tuple[int, int], square: tuple[int, int, int, int], tmp_path: Path
) -> None:
    facts = probe(CASES / f"{name}.mp4", constant_rate=True)
    assert facts == VideoFacts(24, 12.0, *size)
    frame = decode_frames(CASES / f"{name}.mp4", [0])[0]
    assert frame.shape == (3, size[1], size[0])
    assert red_square(frame) == pytest.approx(square, abs=2)
    left, top, right, bottom = square
    rows = tmp_path / "rows.jsonl"
    box = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    row = {"video": f"{name}.mp4", "question": "What?", "chosen": "Red.", "rejected": "Blue.", "boxes": [box]}
    rows.write_text(json.dumps(row) + "\n")
    index = prepare_jsonl(rows, tmp_path / "out", videos=CASES)
    assert (index.entries[0].facts["width"], index.entries[0].facts["height"]) == size
    assert verify(tmp_path / "out.index.json") == []
    inside = frame[:, top + 2 : bottom - 2, left + 3 : right - 3]
    assert inside[0].min() > 200
    assert inside[1:].max() < 60


def former_shard(folder: Path, **annotation: object) -> Path:
    """A shard of sar.mp4 as version 0.1.0 wrote it: it took pixels for square, and speaks of 160 x 240."""
    rows, index = folder / "rows.jsonl", folder / "out.index.json"
    row = {"video": "sar.mp4", "question": "?", "chosen": "a", "rejected": "b", **annotation}
    rows.write_text(json.dumps(row) + "\n")
    prepare_jsonl(rows, folder / "out", videos=CASES)
    index.write_text(index.read_text().replace('"width":320', '"width":160'))
    return index


def test_a_shard_that_was_prepared_before_says_so_at_verify(tmp_path: Path) -> None:
    (problem,) = verify(former_shard(tmp_path))
    assert "is shown at 320 x 240, the index says 160 x 240" in problem
    assert "prepare it again, with boxes in pixels as shown" in problem


def test_a_run_refuses_boxes_of_a_shard_that_was_prepared_before(tmp_path: Path) -> None:
    """They were measured in a picture of half the width; a video without boxes is shown rightly, and is read."""
    index = former_shard(tmp_path, boxes=[{"x": 10, "y": 10, "width": 50, "height": 50}])
    loader = attached(pairs(index, predict=str(index)), stage="predict").predict_dataloader()
    message = r"out-000000\.tar: sample '\S+': \S+\.mp4: is shown at 320 x 240, the index says 160 x 240, .*prepare it"
    with pytest.raises(BadSampleError, match=message):
        next(iter(loader))
    (tmp_path / "plain").mkdir()
    index = former_shard(tmp_path / "plain")
    (batch,) = attached(pairs(index, predict=str(index)), stage="predict").predict_dataloader()
    assert {view.frames.shape for view in batch.views if view.sample == 0} == {(4, 3, 240, 320)}


@pytest.mark.parametrize(
    ("aspect", "turned", "shown"),
    [
        (Fraction(2), False, (64, 48)),
        (Fraction(8, 9), False, (28, 48)),
        (Fraction(2), True, (48, 64)),
        (Fraction(1000, 1001), False, (32, 48)),
    ],
)
def test_pixels_are_made_square_in_width_before_the_video_is_turned(
    aspect: Fraction, turned: bool, shown: tuple[int, int]
) -> None:
    video = plain_video((100, 90, 200), (48, 32), aspect)
    video = with_matrix(video, MATRICES["a quarter turn clockwise"]) if turned else video
    assert (probe(video).width, probe(video).height) == shown
    assert decode_frames(video, [3]).shape == (1, 3, shown[1], shown[0])


def test_clips_are_cut_from_square_pixels(tmp_path: Path) -> None:
    captions = tmp_path / "captions.jsonl"
    captions.write_text(json.dumps({"video": "sar.mp4", "caption": "A red square."}) + "\n")
    index = prepare_videos(
        [str(CASES / "sar.mp4")], str(tmp_path / "out"), str(captions), 120, 160, 9, 12.0, lossless=True
    )
    _, frames = sample(index)
    assert red_square(frames[0]) == pytest.approx((10, 5, 60, 30), abs=1)


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_high_dynamic_range_is_refused_with_the_command_that_maps_it(transfer: int, name: str, tmp_path: Path) -> None:
    video = plain_video(STORED, (64, 64), color_trc=transfer, colorspace=9, color_primaries=9)
    for read in (probe, lambda content: decode_frames(content, [0])):
        with pytest.raises(ValueError, match=rf"high dynamic range \({name}\).*`ffmpeg -i VIDEO -vf zscale=.*tonemap"):
            read(video)
    (tmp_path / "hdr.mp4").write_bytes(video)
    (tmp_path / "rows.jsonl").write_text(
        json.dumps({"video": "hdr.mp4", "question": "?", "chosen": "a", "rejected": "b"}) + "\n"
    )
    with pytest.raises(ValueError, match="row 1, video: is of high dynamic range"):
        prepare_jsonl(tmp_path / "rows.jsonl", tmp_path / "out")


def test_a_video_that_does_not_say_so_is_bt709_from_720_lines_up() -> None:
    assert colour(plain_video(STORED, (720, 16))) == pytest.approx(AS_709, abs=2)
    assert colour(plain_video(STORED, (704, 16))) == pytest.approx(AS_601, abs=2)
    assert colour(plain_video(STORED, (720, 16), colorspace=6)) == pytest.approx(AS_601, abs=2)
    assert colour(plain_video(STORED, (64, 64), colorspace=1)) == pytest.approx(AS_709, abs=2)


def test_colours_stay_when_a_video_is_encoded_here_at_any_size() -> None:
    for height in (704, 720):
        frames = torch.tensor(AS_709, dtype=torch.uint8).view(1, 3, 1, 1).expand(2, 3, height, 16)
        assert colour(encode_mp4(frames, 8)) == pytest.approx(AS_709, abs=2)


def test_high_videos_that_a_former_version_encoded_keep_their_colours() -> None:
    """Version 0.1.0 wrote BT.601 at every size and did not say so."""
    former = plain_video(STORED, (720, 16), options={"crf": "17"})
    assert decode_frames(former, [2, 3])[0, :, 8, 8].tolist() == pytest.approx(AS_601, abs=2)


def test_all_frames_of_one_pass_have_the_colours_of_the_first() -> None:
    video = plain_video(STORED, (720, 16))
    assert torch.equal(decode_frames(video, [3])[0, :, 8, 8], decode_frames(video, [0, 3])[1, :, 8, 8])


def test_shards_of_clips_hold_the_colours_of_a_high_video(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(plain_video(STORED, (720, 16)))
    (tmp_path / "a.txt").write_text("Red.")
    index = prepare_videos([str(tmp_path / "a.mp4")], str(tmp_path / "out"), None, 720, 16, 1, 8.0)
    assert colour(SampleReader(index).read(0)["mp4"]) == pytest.approx(AS_709, abs=3)


def test_frames_are_freed_at_once_and_not_by_the_garbage_collector() -> None:
    """A frame in a cycle would be collected in a forked worker, which then waits for its scaler's threads for ever."""
    gc.collect()
    gc.disable()
    try:
        decode_frames(CASES / "hflip.mp4", [0, 5])
        probe(CASES / "hflip.mp4")
        assert not [held for held in gc.get_objects() if type(held) is av.VideoFrame]
    finally:
        gc.enable()
