"""What a judge is shown: which frames, how many, in which order, of which size."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from datamodules.video.facts import VideoFacts
from lightning_modules.judges.base import JudgeQuestion
from lightning_modules.predict.segment_questions import INSTRUCTIONS, SegmentQuestions, frames_per_segment
from tests.support.flow_shards import SPACE, pair_row
from tests.support.judged_pairs import videos

ROW = pair_row("p")


def row(frames: int, fps: float) -> Any:
    return pair_row("p", SPACE, VideoFacts(frames, fps, 32, 16))


def numbers(question: JudgeQuestion) -> list[int]:
    """The frames that a question shows, by the number in their first row."""
    return [int(image[0, 0, 0]) for image in question.images]  # type: ignore[index, call-overload]


def test_the_papers_second_is_eight_frames_of_24() -> None:
    asks, pair = SegmentQuestions(), row(121, 24.0)
    spans = asks.spans(pair)
    assert [len(span) for span in spans] == [24, 24, 24, 24, 25]
    assert asks.shown(pair, spans[1]) == [24, 27, 30, 33, 36, 39, 42, 45]
    # The odd last frame begins a second of its own.
    assert asks.shown(pair, spans[4]) == [96, 99, 102, 105, 108, 111, 114, 117, 120]


@pytest.mark.parametrize(("fps", "seconds"), [(23.976, 1.0), (16.0, 0.5), (16.0, 2.0), (30.0, 1.0), (25.0, 1.0)])
def test_frames_are_shown_at_their_rate_whatever_the_videos(fps: float, seconds: float) -> None:
    asks, pair = SegmentQuestions(segment_seconds=seconds), row(97, fps)
    for span in asks.spans(pair):
        shown = asks.shown(pair, span)
        assert len(set(shown)) == len(shown)
        assert set(shown) <= set(span)
        assert shown[0] == span.start
        gaps = {later - earlier for earlier, later in pairwise(shown)}
        assert gaps <= {int(fps / 8), int(fps / 8) + 1, round(fps / 8)}
    assert len(asks.shown(pair, asks.spans(pair)[0])) == round(8 * seconds)


def test_a_slow_video_is_shown_in_full() -> None:
    asks = SegmentQuestions()
    assert [asks.shown(ROW, span) for span in asks.spans(ROW)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11, 12]]


def test_each_segment_is_asked_about_in_both_orders() -> None:
    first, second = videos(ROW, (1, 0, -1))
    asked = SegmentQuestions().questions(ROW, first, second)
    assert [(question.key, question.segment, question.shown_first) for question in asked] == [
        ("p", segment, side) for segment in range(3) for side in ("first", "second")
    ]
    assert [question.frames for question in asked[::2]] == [range(4), range(4, 8), range(8, 13)]
    assert numbers(asked[3]) == [4, 5, 6, 7] * 2
    for question, swapped in zip(asked[::2], asked[1::2], strict=True):
        half = len(question.images) // 2
        expected = [*question.images[half:], *question.images[:half]]
        assert all(torch.equal(a, b) for a, b in zip(swapped.images, expected, strict=True))  # type: ignore[arg-type]
        assert question.text == swapped.text, "the words must not give away which order it is"
    content = asked[0].content()
    assert [type(part) is str for part in content] == [True, *[False] * 4, True, *[False] * 4, True]
    assert "4 frames in order, 4 a second" in str(content[0])
    assert str(content[-1]).endswith(INSTRUCTIONS)


def test_the_whole_video_is_one_segment() -> None:
    first, second = videos(ROW, (1, 1, 1))
    asks = SegmentQuestions("whole")
    asked = asks.questions(ROW, first, second)
    assert [(question.segment, question.shown_first, numbers(question)) for question in asked] == [
        (None, "first", [*range(13)] * 2),
        (None, "second", [*range(13)] * 2),
    ]
    assert asks.frames_per_segment(ROW) == 13


def test_frames_are_scaled_down_to_the_longest_side() -> None:
    first, second = videos(ROW, (1, 0, 1))
    asks = SegmentQuestions(frame_side=20)
    shown = asks.questions(ROW, first, second)[0].images
    assert {tuple(image.shape) for image in shown} == {(3, 10, 20)}  # type: ignore[union-attr]
    assert asks.work([ROW]).image_size == (20, 10)
    untouched = SegmentQuestions(frame_side=4000).questions(ROW, first, second)[0].images[0]
    assert torch.equal(untouched, first[0])  # type: ignore[arg-type]


@pytest.mark.parametrize("granularity", ["segments", "whole"])
def test_the_estimate_is_what_will_be_asked(granularity: Any) -> None:
    asks, rows = SegmentQuestions(granularity), [pair_row("a"), pair_row("b")]
    asked = [question for each in rows for question in asks.questions(each, *videos(each, (0, 1, 1)))]
    work = asks.work(rows)
    assert work.questions == len(asked)
    assert work.images == sum(len(question.images) for question in asked)
    texts = [part for question in asked for part in question.content() if isinstance(part, str)]
    assert work.characters == pytest.approx(sum(map(len, texts)), rel=0.01)
    assert work.image_size == (32, 16)


def test_segments_shorter_than_a_latent_name_the_pair() -> None:
    with pytest.raises(ValueError, match=r"pair 'p', 0\.5 s at 4 fps: a segment of 2 frames is shorter"):
        SegmentQuestions(segment_seconds=0.5).work([ROW])


def test_frames_per_segment_are_one_number_only_where_all_pairs_agree() -> None:
    asks = SegmentQuestions()
    assert frames_per_segment(asks, [ROW, ROW]) == 4
    assert frames_per_segment(asks, [ROW, row(97, 16.0)]) is None
