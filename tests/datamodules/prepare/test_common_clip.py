"""Two videos of one prompt, cut to what both have."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.prepare.common_clip import CommonFormat
from datamodules.prepare.pairs import prepare_pairs
from datamodules.video.codec import decode_frames, encode_mp4
from datamodules.video.facts import VideoFacts
from tests.support.annotated_videos import numbered_frames, numbers
from tests.support.generated_pairs import member_bytes, rows_of, written


def test_two_videos_are_cut_to_what_both_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """40 frames at 16 a second of 96 x 64 beside 17 at 8 of 50 x 40: 17 at 8, of 48 x 32; the moments agree."""
    (tmp_path / "a.mp4").write_bytes(encode_mp4(numbered_frames(0, count=40, size=(64, 96)), 16.0, lossless=True))
    (tmp_path / "b.mp4").write_bytes(encode_mp4(numbered_frames(20, count=17, size=(40, 50)), 8.0, lossless=True))
    row = {"first": "a.mp4", "second": "b.mp4", "prompt": "one", "label": "second"}
    options = {"first_column": "first", "second_column": "second", "label_column": "label", "lossless": True}
    index = prepare_pairs(written(tmp_path, "t.json", [row]), tmp_path / "out", **options)
    (read,) = rows_of(index)
    assert read.video == VideoFacts(17, 8.0, 48, 32)
    assert numbers(decode_frames(member_bytes(index, 0, "first.mp4"), range(17))) == [2 * step for step in range(17)]
    assert numbers(decode_frames(member_bytes(index, 0, "second.mp4"), range(17))) == [20 + step for step in range(17)]
    assert "by what changed: rate 1, length 1, size 1" in capsys.readouterr().out
    shapes = {"height": 32, "width": 32, "num_frames": 9, "fps": 4.0}
    small = prepare_pairs(tmp_path / "t.json", tmp_path / "small", **options, **shapes)
    assert rows_of(small)[0].video == VideoFacts(9, 4.0, 32, 32)
    assert numbers(decode_frames(member_bytes(small, 0, "second.mp4"), range(9)))[:3] == [20, 22, 24]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (VideoFacts(121, 24.0, 640, 480), VideoFacts(81, 16.0, 832, 480), VideoFacts(81, 16.0, 640, 480)),
        (VideoFacts(49, 8.0, 720, 470), VideoFacts(49, 8.0, 720, 480), VideoFacts(49, 8.0, 720, 464)),
    ],
)
def test_the_format_that_two_videos_have_in_common(first: VideoFacts, second: VideoFacts, expected: VideoFacts) -> None:
    assert CommonFormat().of(first, second) == expected
    assert CommonFormat().of(second, first) == expected
    with pytest.raises(ValueError, match="has 8 frames a second, 24 are asked for"):
        CommonFormat(fps=24.0).of(VideoFacts(49, 8.0, 64, 64), VideoFacts(49, 24.0, 64, 64))
    with pytest.raises(ValueError, match=r"both videos have 0\.50 s in common, fewer than 5 frames at 8 a second"):
        CommonFormat().of(VideoFacts(4, 8.0, 64, 64), VideoFacts(49, 24.0, 64, 64))
    assert CommonFormat(temporal_ratio=8).of(VideoFacts(47, 8.0, 64, 64), second).frames == 41
