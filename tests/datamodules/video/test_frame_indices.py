"""Which frames are decoded."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.video.facts import VideoFacts
from datamodules.video.frame_indices import clip_indices, span_frames, span_indices, uniform_indices
from tests.support.goldens import golden

GOLDEN = golden("vista_negatives")["outputs"]


@pytest.mark.parametrize("count", [int(count) for count in GOLDEN["linspace_frame_ids"]])
def test_frame_numbers_are_those_of_the_released_code(count: int) -> None:
    assert uniform_indices(0, count - 1, 8) == GOLDEN["linspace_frame_ids"][str(count)]


def test_a_span_takes_the_frames_that_begin_inside_it() -> None:
    facts = VideoFacts(frames=30, fps=10.0, width=8, height=8)
    assert span_frames((0.5, 1.0), facts) == (5, 9)
    assert span_frames((0.0, 3.0), facts) == (0, 29)
    assert span_frames((0.333, 0.334), VideoFacts(30, 3.0, 8, 8)) == (1, 1)  # 0.333 means a third
    assert span_frames((2.99, 3.05), facts) == (29, 29)
    assert span_indices((0.5, 1.0), facts, 3) == [5, 7, 9]


@settings(deadline=None)
@given(st.integers(1, 500), st.sampled_from([3.0, 8.0, 23.976, 30.0]), st.floats(0, 1), st.floats(0.001, 1))
def test_a_span_is_never_empty_and_stays_in_the_video(frames: int, fps: float, start: float, length: float) -> None:
    facts = VideoFacts(frames, fps, 8, 8)
    begin = start * facts.duration * 0.999
    first, last = span_frames((begin, begin + length * (facts.duration - begin)), facts)
    assert 0 <= first <= last < frames
    # Two spans that meet share no frame unless one is shorter than a frame.
    middle = begin + length * (facts.duration - begin)
    if last > first and last < frames - 1:
        assert span_frames((middle, facts.duration), facts)[0] == last + 1


def test_a_clip_shows_what_was_on_screen() -> None:
    video = VideoFacts(60, 30.0, 50, 34)
    assert clip_indices(0.0, 5, 30.0, video) == [0, 1, 2, 3, 4]
    assert clip_indices(0.5, 5, 16.0, video) == [15, 16, 18, 20, 22]  # 15 + 30 / 16 i, rounded down
    assert clip_indices(0.0, 4, 60.0, video) == [0, 0, 1, 1]
    assert clip_indices(1.9, 4, 10.0, video) == [57, 59, 59, 59]
    ntsc = VideoFacts(219, 24000 / 1001, 50, 34)
    assert clip_indices(10 / ntsc.fps, 100, ntsc.fps, ntsc) == list(range(10, 110))
