from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch

import datamodules.vista.frame_choices
from datamodules.video.codec import encode_mp4
from datamodules.vista.facts import SampleFacts
from datamodules.vista.frame_samplers import ViewFrames
from datamodules.vista.index_facts import vista_facts
from datamodules.vista.object_negatives import RoiMask, RoiMove
from datamodules.vista.samples import ALL_NEEDS, Box, PreferenceRow, View
from datamodules.vista.span_negatives import Noise, OtherVideo, OtherVideoSegment, RelevantSegment, Reverse, Shuffle
from datamodules.vista.views import Negatives, Partner, ViewMaker, membership
from tests.support.annotated_videos import FPS, OBJECT, annotated, numbered_frames, numbered_video, numbers

PARTNER_ROW, PARTNER_MEMBERS = annotated("p", members={"mp4": numbered_video(40, 16)})


def facts_of(row: PreferenceRow) -> SampleFacts:
    return SampleFacts.from_index(row.key, vista_facts(row))


def find_partner(random: np.random.Generator) -> Partner:
    return Partner(facts_of(PARTNER_ROW), PARTNER_MEMBERS.__getitem__)


def views_of(
    sample: tuple[PreferenceRow, dict[str, bytes]], maker: ViewMaker | None = None, epoch: int = 0
) -> dict[str, View]:
    row, members = sample
    maker = maker or ViewMaker(ALL_NEEDS, Negatives(), ViewFrames(8), seed=0)
    facts = facts_of(row)
    levels = maker.negatives.levels(facts)
    read = {suffix: members[suffix] for suffix in maker.members(facts, levels)}  # nothing else may be touched
    return {view.name: view for view in maker(row, facts, levels, read, epoch, find_partner)}


def test_the_six_views_show_what_the_annotation_says() -> None:
    views = views_of(annotated("a"))
    assert list(views) == list(ALL_NEEDS)
    assert numbers(views["original"].frames) == [0, 4, 8, 13, 17, 22, 26, 31]
    assert numbers(views["video_negative"].frames) == [31, 26, 22, 17, 13, 8, 4, 0]
    assert numbers(views["clip"].frames) == list(range(8, 16))
    beside = numbers(views["clip_negative"].frames)
    assert beside == sorted(beside)
    assert not set(beside) & set(range(8, 16))
    assert torch.equal(views["object"].frames, numbered_frames()[[12] * 8])
    moved = views["object_negative"].frames
    assert (moved == moved[:1]).all()
    assert (moved[0, :, 4:12, 4:12] != 255).any()
    assert int((moved[0, 0] == 255).sum()) == 64


def test_answers_are_those_asked_for_and_there() -> None:
    views = views_of(annotated("a"))
    assert views["original"].answers == {"chosen": "A disc.", "rejected": "A box.", "irrelevant": "Rain."}
    assert views["clip"].answers == {"chosen": "A disc."}
    assert all(view.prompt == "What moves?" for view in views.values())
    without = views_of(annotated("a", irrelevant=None))
    assert list(without["original"].answers) == ["chosen", "rejected"]


def test_a_level_without_annotation_or_room_has_no_view() -> None:
    assert list(views_of(annotated("a", event=None))) == ["original", "video_negative", "object", "object_negative"]
    assert list(views_of(annotated("a", boxes=()))) == ["original", "video_negative", "clip", "clip_negative"]
    assert "clip" not in views_of(annotated("a", event=(0.0, 4.0)))
    assert "object" not in views_of(annotated("a", boxes=(Box(0, 0, 48, 32),)))
    still = views_of(annotated("a", members={"mp4": numbered_video(0, 1)}, event=None, boxes=()))
    assert list(still) == ["original"]


@pytest.mark.parametrize(
    ("negatives", "message"),
    [
        (Negatives(), "num_frames is 1: Reverse, the video negative, would show the same as its positive"),
        (Negatives(video=Noise(), clip=Shuffle()), "num_frames is 1: Shuffle, the clip negative"),
    ],
)
def test_one_frame_has_no_other_order(negatives: Negatives, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ViewMaker(ALL_NEEDS, negatives, ViewFrames(1), seed=0)
    ViewMaker({"original": ("chosen",)}, negatives, ViewFrames(1), seed=0)
    views = views_of(annotated("a"), ViewMaker(ALL_NEEDS, Negatives(video=Noise()), ViewFrames(1), seed=0))
    assert not torch.equal(views["clip"].frames, views["clip_negative"].frames)


def test_what_is_not_needed_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[list[int]] = []
    original = datamodules.vista.frame_choices.decode_each

    def counted(video: bytes, indices: Iterable[int]) -> dict[int, torch.Tensor]:
        decoded.append(sorted(indices))
        return original(video, indices)

    monkeypatch.setattr(datamodules.vista.frame_choices, "decode_each", counted)
    views = views_of(annotated("a"), ViewMaker({"original": ("chosen",)}, Negatives(), ViewFrames(8), seed=0))
    assert list(views) == ["original"]
    assert decoded == [[0, 4, 8, 13, 17, 22, 26, 31]]
    decoded.clear()
    views_of(annotated("a"))
    assert len(decoded) == 1, "one pass over a video serves all of its views"
    assert {0, 8, 12, 15, 31} <= set(decoded[0])


def test_pre_cut_clips_and_the_key_frame_replace_spans_of_the_video() -> None:
    import cv2

    picture = numbered_frames(50, 1)[0].permute(1, 2, 0).numpy()
    members = {
        "clip.mp4": numbered_video(20, 4),
        "clip_negative.mp4": numbered_video(30, 4),
        "frame.jpg": cv2.imencode(".png", picture[..., ::-1])[1].tobytes(),
    }
    views = views_of(annotated("a", members=members, event=None, key_frame=True))
    assert set(numbers(views["clip"].frames)) == {20, 21, 22, 23}
    assert set(numbers(views["clip_negative"].frames)) == {30, 31, 32, 33}
    assert set(numbers(views["object"].frames)) == {50}


@pytest.mark.parametrize(
    ("boxes", "event", "frame"),
    [
        ((Box(4, 4, 8, 8, 0.5), Box(4, 4, 8, 8, 1.75)), (1.0, 2.0), 14),
        ((Box(4, 4, 8, 8, 0.5), Box(4, 4, 8, 8, 3.9)), None, 4),
        ((Box(4, 4, 8, 8),), None, 16),
        ((Box(4, 4, 8, 8, 4.0),), None, 31),
    ],
)
def test_the_boxed_frame_nearest_the_middle_of_the_event_shows_the_object(
    boxes: tuple[Box, ...], event: tuple[float, float] | None, frame: int
) -> None:
    views = views_of(annotated("a", boxes=boxes, event=event))
    assert set(numbers(views["object"].frames)) == {frame}


def test_only_the_boxes_of_that_frame_are_changed() -> None:
    boxes = (Box(4, 4, 8, 8, 1.5), Box(20, 20, 4, 4, 3.0), Box(30, 2, 4, 4))
    maker = ViewMaker(ALL_NEEDS, Negatives(object=RoiMask()), ViewFrames(8), seed=0)
    masked = views_of(annotated("a", boxes=boxes), maker)["object_negative"].frames[0, 0]
    assert (masked[4:12, 4:12] == 0).all()
    assert (masked[2:6, 30:34] == 0).all()
    assert int((masked == 0).sum()) == 64 + 16


def test_another_video_stands_in_at_both_levels() -> None:
    maker = ViewMaker(ALL_NEEDS, Negatives(video=OtherVideo(), clip=OtherVideoSegment()), ViewFrames(8), seed=0)
    views = views_of(annotated("a"), maker)
    assert numbers(views["video_negative"].frames) == [40, 42, 44, 46, 48, 50, 52, 55]
    segment = numbers(views["clip_negative"].frames)
    assert len(set(segment)) == 8
    assert 40 <= segment[0] <= segment[-1] <= 55
    assert maker.members(facts_of(annotated("a")[0]), {"video", "clip"}) == {"mp4"}


def test_views_repeat_until_drawn_anew_in_each_epoch() -> None:
    negatives = Negatives(video=Shuffle(), clip=RelevantSegment(), object=RoiMove())

    def frames(seed: int = 0, epoch: int = 0, resample: bool = False, key: str = "a") -> Any:
        maker = ViewMaker(ALL_NEEDS, negatives, ViewFrames(8), seed, resample)
        views = views_of(annotated(key), maker, epoch)
        return torch.cat([views[name].frames for name in ("video_negative", "clip_negative", "object_negative")])

    assert torch.equal(frames(), frames(epoch=1))
    assert not torch.equal(frames(resample=True), frames(resample=True, epoch=1))
    assert torch.equal(frames(resample=True, epoch=1), frames(resample=True, epoch=1))
    assert not torch.equal(frames(), frames(seed=1))
    assert not torch.equal(frames(), frames(key="b"))


def test_one_level_draws_independently_of_the_others() -> None:
    both = views_of(annotated("a"), ViewMaker(ALL_NEEDS, Negatives(video=Noise()), ViewFrames(8), seed=0))
    alone = views_of(annotated("a"), ViewMaker({"object_negative": ("chosen",)}, Negatives(), ViewFrames(8), seed=0))
    assert torch.equal(both["object_negative"].frames, alone["object_negative"].frames)


def test_faults_name_sample_and_member() -> None:
    row, members = annotated("a")
    maker = ViewMaker(ALL_NEEDS, Negatives(), ViewFrames(8), seed=0)
    facts = facts_of(row)
    levels = maker.negatives.levels(facts)
    with pytest.raises(ValueError, match=r"a\.mp4 is missing"):
        maker(row, facts, levels, {}, 0, find_partner)
    with pytest.raises(ValueError, match=r"a\.mp4: undecodable video"):
        maker(row, facts, levels, members | {"mp4": b"broken"}, 0, find_partner)
    short = encode_mp4(numbered_frames(0, 9), 8.0)
    with pytest.raises(ValueError, match=r"a\.mp4: undecodable frame 31: the video has 9 frames"):
        maker(row, facts, levels, members | {"mp4": short}, 0, find_partner)


def test_membership_counts_who_takes_part() -> None:
    rows = [
        annotated("a")[0],
        annotated("b", event=None)[0],
        annotated("c", boxes=())[0],
        annotated("d", event=(0.0, 4.0))[0],
    ]
    members = membership([Negatives().levels(facts_of(row)) for row in rows])
    assert {term: member.tolist() for term, member in members.items()} == {
        "response": [True] * 4,
        "token": [True] * 4,
        "supervised": [True] * 4,
        "video": [True] * 4,
        "clip": [True, False, True, False],
        "object": [True, True, False, True],
    }
    shuffled = membership([Negatives(clip=Shuffle()).levels(facts_of(row)) for row in rows])
    assert shuffled["clip"].tolist() == [True, False, True, True]


def test_the_description_tells_negatives_and_arguments_apart() -> None:
    assert Negatives().describe() == Negatives(Reverse(), RelevantSegment(), RoiMove()).describe()
    assert Negatives().describe() != Negatives(video=Shuffle()).describe()
    assert Negatives(video=Noise(0.5)).describe() != Negatives(video=Noise()).describe()


def test_facts_know_the_faults_of_event_and_boxes() -> None:
    row = annotated("a", event=(3.0, 9.0), boxes=(OBJECT, Box(40, 4, 20, 4)))[0]
    assert [fault.field for fault in facts_of(row).faults()] == ["event", "boxes[1]"]


def seconds(view: View) -> list[float]:
    """The view's times in frames of the sample's video, which has FPS frames a second."""
    assert view.times is not None
    assert view.times.dtype == torch.float32
    return [round(float(time) * FPS, 3) for time in view.times]


@pytest.mark.parametrize("negative", [Reverse(), Shuffle(), Noise()])
def test_a_negative_of_the_same_frames_keeps_the_positives_clock(negative: Any) -> None:
    views = views_of(annotated("a"), ViewMaker(ALL_NEEDS, Negatives(video=negative), ViewFrames(8), seed=0))
    assert seconds(views["original"]) == [0, 4, 8, 13, 17, 22, 26, 31]
    assert seconds(views["video_negative"]) == [0, 4, 8, 13, 17, 22, 26, 31]


def test_a_clip_starts_at_0_and_a_repeated_frame_has_the_videos_step() -> None:
    views = views_of(annotated("a"))
    assert seconds(views["clip"]) == list(range(8))
    assert seconds(views["clip_negative"])[0] == 0
    assert seconds(views["object"]) == pytest.approx([31 / 7 * place for place in range(8)], abs=1e-2)
    assert views["object_negative"].times is not None
    assert torch.equal(views["object"].times, views["object_negative"].times)


def test_another_video_has_its_own_clock() -> None:
    views = views_of(annotated("a"), ViewMaker(ALL_NEEDS, Negatives(video=OtherVideo()), ViewFrames(4), seed=0))
    assert seconds(views["video_negative"]) == [0, 5, 10, 15]
