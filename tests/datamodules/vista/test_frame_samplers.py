from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.video.codec import encode_mp4, read_packets
from datamodules.video.packets import Packet, motion_sizes
from datamodules.vista.facts import FrameSpan
from datamodules.vista.frame_samplers import EventFrames, MotionFrames, SampledSpan, UniformFrames, ViewFrames
from datamodules.vista.samples import ALL_NEEDS, View
from datamodules.vista.span_negatives import OtherVideo, Shuffle
from datamodules.vista.views import Negatives, ViewMaker
from tests.datamodules.vista.test_views import views_of
from tests.support.annotated_videos import EVENT, FPS, annotated, numbers
from tests.support.pairs_harness import attached, eleven_samples, pairs

WHOLE, HELD = FrameSpan("mp4", 0, 599, 1.0), FrameSpan("mp4", 300, 339, 1.0)


def chosen(share: float, num: int, span: FrameSpan = WHOLE, event: FrameSpan | None = HELD) -> list[int]:
    return EventFrames(share).indices(SampledSpan(span, event, b"", "a.mp4"), num)


def test_a_share_of_the_frames_is_within_the_event_and_the_others_around_it() -> None:
    frames = chosen(0.5, 8)
    assert frames == [0, 186, 300, 313, 326, 339, 412, 599]
    assert chosen(1.0, 4) == [300, 313, 326, 339]
    assert chosen(0.01, 4) == [0, 279, 300, 599], "an event is shown by one frame at least"


@pytest.mark.parametrize("num", [1, 2, 7, 64, 128, 599, 600, 900])
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_frames_are_ascending_distinct_and_as_many_as_asked_for(share: float, num: int) -> None:
    for event in (HELD, FrameSpan("mp4", 0, 1, 1.0), FrameSpan("mp4", 2, 599, 1.0), WHOLE):
        frames = chosen(share, num, event=event)
        assert len(frames) == num
        assert frames == sorted(frames)
        assert len(set(frames)) == min(num, 600)
        assert 0 <= frames[0] <= frames[-1] <= 599


def test_an_event_or_a_rest_that_is_too_short_leaves_its_frames_to_the_other() -> None:
    short = chosen(0.5, 100, event=FrameSpan("mp4", 300, 301, 1.0))
    assert sum(300 <= frame <= 301 for frame in short) == 2
    long = chosen(0.5, 100, event=FrameSpan("mp4", 10, 599, 1.0))
    assert sum(frame < 10 for frame in long) == 10


def test_without_an_event_frames_are_spread_evenly() -> None:
    assert chosen(0.5, 8, event=None) == WHOLE.indices(8)
    assert chosen(0.5, 8, span=FrameSpan("clip.mp4", 0, 99, 1.0)) == FrameSpan("clip.mp4", 0, 99, 1.0).indices(8)


def moving(first: int, last: int, count: int = 96, rate: float = 8.0) -> bytes:
    """A video in which a bright square jumps in the frames from `first` to `last`, and nothing moves elsewhere."""
    frames = np.full((count, 64, 64, 3), 60, np.uint8)
    place = 0
    for index in range(count):
        place = place + 1 if first <= index <= last else place
        left, top = 4 + 11 * place % 40, 4 + 7 * place % 40
        frames[index, top : top + 16, left : left + 16] = 240
    return encode_mp4(frames, rate)


def sampled(content: bytes, count: int = 96, rate: float = 8.0) -> SampledSpan:
    return SampledSpan(FrameSpan("mp4", 0, count - 1, rate), None, content, "a.mp4")


def test_more_frames_are_where_more_moves() -> None:
    video = sampled(moving(40, 63))
    frames = MotionFrames(share=0.75).indices(video, 16)
    assert frames == sorted(set(frames))
    within = sum(36 <= frame <= 67 for frame in frames)
    assert within >= 11, "a third of the video has three quarters of what follows motion, and its share of the rest"
    assert sum(frame < 36 for frame in frames) >= 1 <= sum(frame > 67 for frame in frames)
    assert MotionFrames(share=0.75).indices(video, 16) == frames
    elsewhere = MotionFrames(share=0.75).indices(sampled(moving(8, 23)), 16)
    assert sum(4 <= frame <= 27 for frame in elsewhere) >= 9


@pytest.mark.parametrize("num", [1, 5, 40, 95, 96, 200])
def test_motion_weighted_frames_are_ascending_distinct_and_as_many(num: int) -> None:
    frames = MotionFrames(share=1.0, window=0.0).indices(sampled(moving(40, 44)), num)
    assert len(frames) == num
    assert frames == sorted(frames)
    assert len(set(frames)) == min(num, 96)
    assert 0 <= frames[0] <= frames[-1] <= 95


def test_a_key_frame_counts_as_the_frame_behind_it_and_times_are_in_the_order_of_showing() -> None:
    packets = [Packet(0, True, False, 900), Packet(3, False, False, 7), Packet(1, False, False, 5)]
    packets += [Packet(2, False, False, 6), Packet(4, True, False, 800)]
    assert motion_sizes(packets) is not None
    assert motion_sizes(packets).tolist() == [0, 0, 1, 2, 2]  # type: ignore[union-attr]
    for odd in (Packet(None, False, False, 5), Packet(1, False, False, 5), Packet(9, False, True, 5)):
        assert motion_sizes([*packets, odd]) is None
    assert motion_sizes([Packet(0, True, False, 9), Packet(1, True, False, 8)]) is None
    assert len(read_packets(moving(0, 0, 12))[0]) == 12


def test_a_video_whose_packets_tell_nothing_is_sampled_evenly_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    video, sizes = sampled(moving(0, 0, 24), 24), "datamodules.vista.frame_samplers.motion_sizes"
    monkeypatch.setattr(sizes, lambda packets: np.zeros(24, np.int64))
    assert MotionFrames().indices(video, 4) == video.span.indices(4), "nothing moves more than anything else"
    monkeypatch.setattr(sizes, lambda packets: None)
    with pytest.warns(UserWarning, match=r"a\.mp4: MotionFrames samples it evenly"):
        assert MotionFrames().indices(video, 4) == video.span.indices(4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EventFrames(0.0), "share is 0.0"),
        (lambda: EventFrames(1.5), "share is 1.5"),
        (lambda: MotionFrames(0.0), "share is 0.0"),
        (lambda: MotionFrames(0.5, -1.0), "window is -1.0"),
    ],
)
def test_shares_and_windows_that_are_none_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# Views


def made(negatives: Negatives | None = None, **settings: Any) -> dict[str, View]:
    frames = ViewFrames(**{"num_frames": 8, "sampler": EventFrames(0.5)} | settings)
    return views_of(annotated("a"), ViewMaker(ALL_NEEDS, negatives or Negatives(), frames, seed=0))


def test_views_show_each_frame_with_its_own_time() -> None:
    views = made()
    shown = numbers(views["original"].frames)
    assert shown == [0, 7, 8, 10, 12, 15, 23, 31]  # the event takes frames 8 to 15
    assert views["original"].times is not None
    assert views["original"].times.tolist() == [frame / FPS for frame in shown]
    assert numbers(views["clip"].frames) == list(range(8, 16))


def test_a_negative_keeps_the_clock_of_its_positive() -> None:
    views = made()
    assert numbers(views["video_negative"].frames) == numbers(views["original"].frames)[::-1]
    assert torch.equal(views["video_negative"].times, views["original"].times)  # type: ignore[arg-type]
    shuffled = made(Negatives(video=Shuffle()))
    assert sorted(numbers(shuffled["video_negative"].frames)) == numbers(views["original"].frames)
    assert torch.equal(shuffled["video_negative"].times, views["original"].times)  # type: ignore[arg-type]
    other = made(Negatives(video=OtherVideo()))["video_negative"]  # frames 40 to 55 of a partner half as long
    assert numbers(other.frames) == [40 + frame * 15 // 31 for frame in numbers(views["original"].frames)]
    assert other.times is not None
    assert other.times.tolist() == [(number - 40) / FPS for number in numbers(other.frames)]


def test_every_level_has_its_own_number_of_frames() -> None:
    views = made(num_clip_frames=3, num_object_frames=1, num_frames=12)
    counts = {name: len(view.frames) for name, view in views.items()}
    assert counts == {
        "original": 12, "video_negative": 12, "clip": 3, "clip_negative": 3, "object": 1, "object_negative": 1,
    }  # fmt: skip
    assert all(view.times is not None and len(view.times) == len(view.frames) for view in views.values())
    with pytest.raises(ValueError, match=r"data\.num_clip_frames is 1: Shuffle, the clip negative"):
        made(Negatives(clip=Shuffle()), num_clip_frames=1)


def test_motion_is_read_from_the_samples_own_video_also_where_the_negative_is_anothers() -> None:
    views = made(Negatives(video=OtherVideo()), sampler=MotionFrames())
    shown = numbers(views["original"].frames)
    assert numbers(views["video_negative"].frames) == [40 + frame * 15 // 31 for frame in shown]


# Data module


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return eleven_samples(tmp_path_factory.mktemp("shards"))


def test_samples_without_an_event_are_counted_and_said(shards: Path) -> None:
    with pytest.warns(UserWarning, match=r"4 of 11 samples have no event in seconds, and EventFrames .*'s00'"):
        data = attached(pairs(shards, frames=EventFrames()))
    batch = next(iter(data.train_dataloader()))
    assert all(len(view.frames) == 4 for view in batch.views)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        attached(pairs(shards))


def test_what_chooses_frames_is_part_of_the_views_fingerprint_and_the_default_is_not(shards: Path) -> None:
    plain = attached(pairs(shards)).views_fingerprint()
    assert plain == attached(pairs(shards, frames=UniformFrames())).views_fingerprint()
    assert "frames" not in plain
    changes: list[dict[str, Any]] = [
        {"frames": MotionFrames()},
        {"frames": MotionFrames(0.4)},
        {"clip_frames": MotionFrames()},
        {"num_clip_frames": 2},
        {"num_object_frames": 2},
        {"reference_frames": 4},
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prints = [
            attached(pairs(shards, **change), {"original": ("chosen",)}).views_fingerprint() for change in changes
        ]
    assert all(other != plain for other in prints)
    assert len({str(other) for other in prints}) == len(prints)


def test_a_policy_that_knows_the_mean_step_only_is_told_of(shards: Path) -> None:
    from tests.support.pairs_harness import Recorder

    module = Recorder()
    module.policy.reads_mean_step = True  # type: ignore[attr-defined]
    with pytest.warns(UserWarning, match="not evenly spaced in time, and the policy's positions know the mean step"):
        attached(pairs(shards, frames=MotionFrames()), lightning_module=module)


def test_the_event_in_seconds_decides() -> None:
    early = views_of(
        annotated("a", event=(0.0, 1.0)),
        ViewMaker(ALL_NEEDS, Negatives(), ViewFrames(8, sampler=EventFrames()), seed=0),
    )
    assert sum(number < 8 for number in numbers(early["original"].frames)) == 4
    assert EVENT != (0.0, 1.0)
