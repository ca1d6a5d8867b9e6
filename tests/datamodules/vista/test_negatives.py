from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from datamodules.stream.draws import generator
from datamodules.video.facts import VideoFacts
from datamodules.vista.facts import FrameSpan
from datamodules.vista.span_negatives import Noise, OtherVideo, OtherVideoSegment, RelevantSegment, Reverse, Shuffle
from tests.support.goldens import golden
from tests.support.negative_inputs import facts, video
from tests.support.paths import ROOT

GOLDEN = golden("vista_negatives")["outputs"]

SPAN_NEGATIVES = [Reverse(), Shuffle(), Noise(), Noise(0.5), OtherVideo(), RelevantSegment()]

seeds = st.integers(0, 2**31)
keys = st.text(min_size=1, max_size=8)


# Draws


def test_draws_are_the_same_in_another_process() -> None:
    here = generator(3, "key", "clip/span", 1).integers(0, 2**60, 3).tolist()
    code = "from datamodules.stream.draws import generator as g;"
    code += "print(g(3, 'key', 'clip/span', 1).integers(0, 2**60, 3).tolist())"
    command = [sys.executable, "-c", code]
    other = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert json.loads(other.stdout) == here


def test_seed_key_purpose_and_epoch_each_change_the_draw() -> None:
    draws = [(0, "a", "p", None), (1, "a", "p", None), (0, "b", "p", None), (0, "a", "q", None), (0, "a", "p", 0)]
    assert len({int(generator(*names).integers(0, 2**60)) for names in draws}) == len(draws)


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


@pytest.mark.parametrize("negative", SPAN_NEGATIVES, ids=lambda negative: type(negative).__name__)
def test_span_negatives_leave_their_input_alone_and_repeat(negative: Reverse) -> None:
    frames = video(8)
    before = frames.clone()
    first, second = (negative.make(frames, generator(1, "a", "make")) for _ in range(2))
    assert torch.equal(frames, before)
    assert torch.equal(first, second)
    assert first.shape == frames.shape
    assert first.dtype == torch.uint8


@pytest.mark.parametrize("negative", [Shuffle(), Noise()], ids=lambda negative: type(negative).__name__)
def test_another_key_or_seed_gives_another_negative(negative: Shuffle) -> None:
    frames = video(8)
    negatives = [negative.make(frames, generator(seed, key, "make")) for seed, key in ((0, "a"), (0, "b"), (1, "a"))]
    assert not torch.equal(negatives[0], negatives[1])
    assert not torch.equal(negatives[0], negatives[2])


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
    sample = facts(video=VideoFacts(frames, fps, 8, 8))
    start, end = sorted(share * sample.video.duration for share in event)
    assume(end > start)
    sample = facts(video=sample.video, event=(start, end))
    negative, positive = RelevantSegment(min_share), sample.event_span()
    assert positive is not None
    before, after = positive.first, frames - 1 - positive.last
    least = max(2, min_share * len(positive))
    assert negative.available(sample, positive) == (max(before, after) >= least)
    if negative.available(sample, positive):
        span = negative.span(sample, positive, generator(0, key, "span"))
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
    sample = facts(event=(0.0, 4.0), clip_negative=VideoFacts(16, 8.0, 64, 48))
    assert RelevantSegment().available(sample, sample.whole())
    span = RelevantSegment().span(sample, sample.whole(), generator(0, "a", "span"))
    assert span == FrameSpan("clip_negative.mp4", 0, 15, 8.0)
    assert RelevantSegment().members(sample) == ("clip_negative.mp4",)


def test_a_relevant_segment_comes_from_the_longer_side_more_often() -> None:
    sample = facts(event=(1.0, 1.5))  # 10 frames before, 25 after
    positive = sample.event_span()
    assert positive is not None
    spans = [RelevantSegment().span(sample, positive, generator(0, str(key), "span")) for key in range(400)]
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
