from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from datamodules.negatives import (
    Noise,
    OtherVideo,
    OtherVideoSegment,
    RandomCrop,
    RelevantSegment,
    Reverse,
    RoiBlur,
    RoiMask,
    RoiMove,
    Shuffle,
)
from datamodules.roi_negatives import pixel_box
from datamodules.sample_facts import FrameSpan, SampleFacts, generator
from datamodules.samples import Box, VideoFacts

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "vista_negatives.json").read_text())["outputs"]
GOLDEN_BOX = Box(GOLDEN["box"]["x"], GOLDEN["box"]["y"], GOLDEN["box"]["w"], GOLDEN["box"]["h"])

OBJECT_NEGATIVES = [RoiMove(), RoiMask(), RoiBlur(), RandomCrop()]
SPAN_NEGATIVES = [Reverse(), Shuffle(), Noise(), Noise(0.5), OtherVideo(), RelevantSegment()]

seeds = st.integers(0, 2**31)
keys = st.text(min_size=1, max_size=8)


def video(length: int, seed: int = 0, height: int = 6, width: int = 8) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (length, 3, height, width), dtype=np.uint8))


@st.composite
def framed_boxes(draw: st.DrawFn) -> tuple[torch.Tensor, Box]:
    """A frame and a box inside it, fractional as real annotations are."""
    height, width = draw(st.integers(8, 40)), draw(st.integers(8, 40))
    x, y = draw(st.floats(0, width - 2)), draw(st.floats(0, height - 2))
    box = Box(x, y, draw(st.floats(1, width - x)), draw(st.floats(1, height - y)))
    return video(1, draw(st.integers(0, 99)), height, width)[0], box


def facts(**changes: object) -> SampleFacts:
    base: dict[str, object] = {"key": "a", "video_id": "v", "video": VideoFacts(40, 10.0, 64, 48)}
    return SampleFacts(**(base | changes))  # type: ignore[arg-type]


def inside(frame: torch.Tensor, box: Box) -> torch.Tensor:
    mask = torch.zeros(frame.shape, dtype=torch.bool)
    mask[pixel_box(box, frame.shape[2], frame.shape[1]).slices] = True
    return mask


# Draws


def test_draws_are_the_same_in_another_process() -> None:
    here = generator(3, "key", "clip/span", 1).integers(0, 2**60, 3).tolist()
    code = "from datamodules.sample_facts import generator as g;"
    code += "print(g(3, 'key', 'clip/span', 1).integers(0, 2**60, 3).tolist())"
    command = [sys.executable, "-c", code]
    other = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert json.loads(other.stdout) == here


def test_seed_key_purpose_and_epoch_each_change_the_draw() -> None:
    draws = [(0, "a", "p", None), (1, "a", "p", None), (0, "b", "p", None), (0, "a", "q", None), (0, "a", "p", 0)]
    assert len({int(generator(*one).integers(0, 2**60)) for one in draws}) == len(draws)


# Video and clip


@given(st.integers(1, 9), seeds)
def test_reverse_twice_is_the_identity(length: int, seed: int) -> None:
    frames, random = video(length, seed), generator(0, "a", "make")
    backwards = Reverse().make(frames, random)
    assert torch.equal(backwards[0], frames[-1])
    assert torch.equal(Reverse().make(backwards, random), frames)


def test_reverse_is_the_golden_order() -> None:
    frames = torch.arange(6, dtype=torch.uint8).view(6, 1, 1, 1).expand(6, 3, 2, 2)
    assert Reverse().make(frames, generator(0, "a", "make"))[:, 0, 0, 0].tolist() == GOLDEN["reverse"]


@given(st.lists(st.integers(0, 3), min_size=2, max_size=9), keys, seeds)
def test_shuffle_is_a_permutation_that_shows(values: list[int], key: str, seed: int) -> None:
    frames = torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1).repeat(1, 3, 2, 2)
    shuffled = Shuffle().make(frames, generator(seed, key, "make"))[:, 0, 0, 0].tolist()
    assert sorted(shuffled) == sorted(values)
    assert (shuffled != values) == (len(set(values)) > 1)


def test_noise_shows_nothing_or_its_share_of_the_video() -> None:
    frames = torch.full((4, 3, 30, 30), 255, dtype=torch.uint8)
    full = Noise().make(frames, generator(0, "a", "make")).float()
    half = Noise(0.5).make(frames, generator(0, "a", "make")).float()
    assert abs(float(full.mean()) - 127.5) < 2
    assert float(half.min()) >= 127
    torch.testing.assert_close(half, (full + 255) / 2, atol=0.51, rtol=0)
    with pytest.raises(ValueError, match="strength"):
        Noise(0.0)


@pytest.mark.parametrize("negative", SPAN_NEGATIVES, ids=lambda one: type(one).__name__)
def test_span_negatives_leave_their_input_alone_and_repeat(negative: Reverse) -> None:
    frames = video(8)
    before = frames.clone()
    first, second = (negative.make(frames, generator(1, "a", "make")) for _ in range(2))
    assert torch.equal(frames, before)
    assert torch.equal(first, second)
    assert first.shape == frames.shape
    assert first.dtype == torch.uint8


@pytest.mark.parametrize("negative", [Shuffle(), Noise()], ids=lambda one: type(one).__name__)
def test_another_key_or_seed_gives_another_negative(negative: Shuffle) -> None:
    frames = video(8)
    made = [negative.make(frames, generator(seed, key, "make")) for seed, key in ((0, "a"), (0, "b"), (1, "a"))]
    assert not torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


@settings(deadline=None)
@given(
    st.integers(1, 200),
    st.sampled_from([4.0, 10.0, 23.976]),
    st.tuples(st.floats(0, 1), st.floats(0, 1)),
    keys,
    st.sampled_from([0.0, 0.25, 1.0]),
)
def test_a_relevant_segment_never_shows_the_event(
    frames: int, fps: float, event: tuple[float, float], key: str, min_share: float
) -> None:
    one = facts(video=VideoFacts(frames, fps, 8, 8))
    start, end = sorted(share * one.video.duration for share in event)
    assume(end > start)
    one = facts(video=one.video, event=(start, end))
    negative, positive = RelevantSegment(min_share), one.event_span()
    assert positive is not None
    before, after = positive.first, frames - 1 - positive.last
    least = max(2, min_share * len(positive))
    assert negative.available(one, positive) == (max(before, after) >= least)
    if negative.available(one, positive):
        span = negative.span(one, positive, generator(0, key, "span"))
        assert span.last < positive.first or span.first > positive.last
        assert 0 <= span.first <= span.last < frames
        side = before if span.last < positive.first else after
        assert side >= 2
        assert len(span) == min(len(positive), side)


def test_a_relevant_segment_needs_room_beside_a_known_event() -> None:
    covered = facts(event=(0.0, 4.0))
    assert not RelevantSegment().available(covered, covered.whole())
    unknown = facts(clip=VideoFacts(20, 10.0, 64, 48))
    assert not RelevantSegment().available(unknown, unknown.whole())


def test_a_relevant_segment_prefers_the_pre_cut_one() -> None:
    one = facts(event=(0.0, 4.0), clip_negative=VideoFacts(16, 8.0, 64, 48))
    assert RelevantSegment().available(one, one.whole())
    span = RelevantSegment().span(one, one.whole(), generator(0, "a", "span"))
    assert span == FrameSpan("clip_negative.mp4", 0, 15, 8.0)
    assert RelevantSegment().members(one) == ("clip_negative.mp4",)


def test_a_relevant_segment_comes_from_the_longer_side_more_often() -> None:
    one = facts(event=(1.0, 1.5))  # 10 frames before, 25 after
    positive = one.event_span()
    assert positive is not None
    spans = [RelevantSegment().span(one, positive, generator(0, str(key), "span")) for key in range(400)]
    after = sum(span.first > positive.last for span in spans) / len(spans)
    assert abs(after - 25 / 35) < 0.08
    assert len({span.first for span in spans}) > 15


def test_another_video_is_shown_whole_or_for_as_long_as_the_event() -> None:
    own, partner = facts(event=(1.0, 3.0)), facts(key="b", video_id="w", video=VideoFacts(300, 30.0, 8, 8))
    positive = own.event_span()
    assert positive is not None
    random = generator(0, "a", "span")
    assert OtherVideo().span(partner, own.whole(), random) == FrameSpan("mp4", 0, 299, 30.0)
    segment = OtherVideoSegment().span(partner, positive, random)
    assert len(segment) == 60
    assert segment.last < 300
    short = facts(key="c", video_id="w", video=VideoFacts(5, 30.0, 8, 8))
    assert OtherVideoSegment().span(short, positive, random) == FrameSpan("mp4", 0, 4, 30.0)


def test_one_frame_has_no_order() -> None:
    still = facts(video=VideoFacts(1, 10.0, 8, 8))
    assert not Reverse().available(still, still.whole())
    assert not Shuffle().available(still, still.whole())
    assert Noise().available(still, still.whole())
    assert OtherVideo().available(still, still.whole())


# Object


def test_boxes_and_masks_are_those_of_the_released_image_rule() -> None:
    assert list(pixel_box(GOLDEN_BOX, 6, 5)) == GOLDEN["int_box_image_rule"]
    white = torch.full((3, 5, 6), 255, dtype=torch.uint8)
    masked = RoiMask().make(white, [GOLDEN_BOX], generator(0, "a", "make"))
    assert (masked[0].double() / 255).tolist() == GOLDEN["image_mask_intended"]


def test_a_box_is_clipped_to_the_frame_and_has_a_pixel_at_least() -> None:
    assert tuple(pixel_box(Box(-0.5, -0.9, 100.0, 3.0), 6, 5)) == (0, 0, 6, 2)
    assert tuple(pixel_box(Box(2.1, 1.1, 0.3, 0.3), 6, 5)) == (2, 1, 3, 2)
    assert tuple(pixel_box(Box(5.9, 4.9, 1.0, 1.0), 6, 5)) == (5, 4, 6, 5)


@settings(deadline=None)
@given(framed_boxes(), keys, seeds)
def test_a_moved_object_lands_far_away_and_all_else_stays(one: tuple[torch.Tensor, Box], key: str, seed: int) -> None:
    frame, box = one
    height, width = frame.shape[1:]
    assume(RoiMove().available(facts(video=VideoFacts(40, 10.0, width, height), boxes=(box,))))
    moved = RoiMove().make(frame, [box], generator(seed, key, "make"))
    source = pixel_box(box, width, height)
    content = frame[source.slices]
    rows, columns = height - source.height + 1, width - source.width + 1
    patches = moved.unfold(1, source.height, 1).unfold(2, source.width, 1)
    matches = (patches == content[:, None, None]).all(dim=(0, 3, 4))
    fits = [
        (top, left)
        for top in range(rows)
        for left in range(columns)
        if matches[top, left]
        and 2 * abs(left - source.left) >= max(source.left, columns - 1 - source.left)
        and 2 * abs(top - source.top) >= max(source.top, rows - 1 - source.top)
    ]
    assert fits, "the content is nowhere far enough"

    def changes_elsewhere(top: int, left: int) -> bool:
        touched = inside(frame, box)
        touched[:, top : top + source.height, left : left + source.width] = True
        return bool((frame != moved)[~touched].any())

    assert not all(changes_elsewhere(*place) for place in fits)


def test_the_hole_is_filled_from_around_it() -> None:
    frame = torch.full((3, 40, 60), 90, dtype=torch.uint8)
    frame[:, :, 30:] = 130
    frame[0, 10:20, 10:20] = 255  # the object
    moved = RoiMove().make(frame, [Box(10, 10, 10, 10)], generator(0, "a", "make"))
    assert (moved[:, 10:20, 10:20] == 90).all()
    assert int((moved[0] == 255).sum()) == 100


@pytest.mark.parametrize("top", [10, 29])
def test_a_rim_that_passes_the_box_does_not_bleed_into_the_hole(top: int) -> None:
    frame = torch.full((3, 40, 60), 90, dtype=torch.uint8)
    frame[0, top - 1 : top + 11, 9:21] = 255
    moved = RoiMove().make(frame, [Box(10, top, 10, 10)], generator(0, "a", "make"))
    assert (moved[:, top : top + 10, 10:20] == 90).all()


def test_an_object_moves_to_many_places_and_the_first_one_with_room_moves() -> None:
    frame = video(1, 0, 48, 64)[0]
    boxes = [Box(0, 0, 64, 48), Box(20, 20, 10, 10)]
    move = RoiMove()
    assert move.available(facts(boxes=tuple(boxes)))
    made = {move.make(frame, boxes, generator(0, str(key), "make")).numpy().tobytes() for key in range(20)}
    assert len(made) > 15


def test_a_box_that_fills_its_frame_cannot_move() -> None:
    for box in (Box(0, 0, 64, 48), Box(0.5, 0.5, 62.0, 46.0)):
        assert not RoiMove().available(facts(boxes=(box,)))
        with pytest.raises(ValueError, match="room"):
            RoiMove().make(video(1, 0, 48, 64)[0], [box], generator(0, "a", "make"))
    assert RoiMove().available(facts(boxes=(Box(0, 0, 64, 20),)))  # it can go down
    assert not any(negative.available(facts()) for negative in OBJECT_NEGATIVES)


@settings(deadline=None)
@given(framed_boxes(), keys)
def test_mask_and_blur_change_nothing_outside_the_box(one: tuple[torch.Tensor, Box], key: str) -> None:
    frame, box = one
    area = inside(frame, box)
    for negative in (RoiMask(), RoiBlur()):
        made = negative.make(frame, [box], generator(0, key, "make"))
        assert torch.equal(made[~area], frame[~area])
    assert (RoiMask(7).make(frame, [box], generator(0, key, "make"))[area] == 7).all()


def test_blur_flattens_the_object_and_does_not_see_around_it() -> None:
    frame = torch.zeros((3, 40, 40), dtype=torch.uint8)
    frame[:, 10:20, 10:20] = (torch.arange(100).view(10, 10) % 2 * 200).to(torch.uint8)
    box = Box(10, 10, 10, 10)
    blurred = RoiBlur().make(frame, [box], generator(0, "a", "make"))[:, 10:20, 10:20].float()
    assert float(blurred.std()) < 15  # 100 before
    assert abs(float(blurred.mean()) - 100) < 10  # black surroundings would darken it


@settings(deadline=None)
@given(framed_boxes(), keys)
def test_a_random_crop_keeps_the_size(one: tuple[torch.Tensor, Box], key: str) -> None:
    frame, box = one
    made = RandomCrop().make(frame, [box], generator(0, key, "make"))
    assert made.shape == frame.shape
    assert made.dtype == torch.uint8


def test_a_random_crop_enlarges_a_small_part() -> None:
    ramp = torch.arange(200, dtype=torch.uint8).expand(3, 100, 200)
    widths = []
    for key in range(50):
        made = RandomCrop().make(ramp, [Box(0, 0, 5, 5)], generator(0, str(key), "make"))
        widths.append(int(made.max()) - int(made.min()))
    assert max(widths) < 110  # at most sqrt(0.2 * 4/3) of the width
    assert len(set(widths)) > 10


@settings(deadline=None)
@given(framed_boxes(), keys, seeds)
def test_object_negatives_leave_their_input_alone_and_repeat(
    one: tuple[torch.Tensor, Box], key: str, seed: int
) -> None:
    frame, box = one
    assume(RoiMove().available(facts(video=VideoFacts(1, 1.0, frame.shape[2], frame.shape[1]), boxes=(box,))))
    before = frame.clone()
    for negative in OBJECT_NEGATIVES:
        first, second = (negative.make(frame, [box], generator(seed, key, "make")) for _ in range(2))
        assert torch.equal(frame, before)
        assert torch.equal(first, second)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RoiMove(0.0),
        lambda: RoiMask(300),
        lambda: RoiBlur(0),
        lambda: RandomCrop((0.5, 0.1)),
        lambda: RelevantSegment(2.0),
    ],
)
def test_arguments_that_make_no_sense_are_refused(make: object) -> None:
    with pytest.raises(ValueError, match="give"):
        make()  # type: ignore[operator]
