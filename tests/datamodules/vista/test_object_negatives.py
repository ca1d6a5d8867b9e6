from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from datamodules.stream.draws import generator
from datamodules.video.facts import VideoFacts
from datamodules.vista.object_negatives import RandomCrop, RoiBlur, RoiMask, RoiMove, pixel_box
from datamodules.vista.samples import Box
from datamodules.vista.span_negatives import RelevantSegment
from tests.support.goldens import golden
from tests.support.negative_inputs import facts, video

GOLDEN = golden("vista_negatives")["outputs"]
GOLDEN_BOX = Box(GOLDEN["box"]["x"], GOLDEN["box"]["y"], GOLDEN["box"]["w"], GOLDEN["box"]["h"])
OBJECT_NEGATIVES = [RoiMove(), RoiMask(), RoiBlur(), RandomCrop()]

seeds = st.integers(0, 2**31)
keys = st.text(min_size=1, max_size=8)


@st.composite
def framed_boxes(draw: st.DrawFn) -> tuple[torch.Tensor, Box]:
    """A frame and a box inside it, fractional as real annotations are."""
    height, width = draw(st.integers(8, 40)), draw(st.integers(8, 40))
    x, y = draw(st.floats(0, width - 2)), draw(st.floats(0, height - 2))
    box = Box(x, y, draw(st.floats(1, width - x)), draw(st.floats(1, height - y)))
    return video(1, draw(st.integers(0, 99)), height, width)[0], box


def inside(frame: torch.Tensor, box: Box) -> torch.Tensor:
    mask = torch.zeros(frame.shape, dtype=torch.bool)
    mask[pixel_box(box, frame.shape[2], frame.shape[1]).slices] = True
    return mask


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
def test_a_moved_object_lands_far_away_and_all_else_stays(boxed: tuple[torch.Tensor, Box], key: str, seed: int) -> None:
    frame, box = boxed
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
    moved = {move.make(frame, boxes, generator(0, str(key), "make")).numpy().tobytes() for key in range(20)}
    assert len(moved) > 15


def test_a_box_that_fills_its_frame_cannot_move() -> None:
    for box in (Box(0, 0, 64, 48), Box(0.5, 0.5, 62.0, 46.0)):
        assert not RoiMove().available(facts(boxes=(box,)))
        with pytest.raises(ValueError, match="room"):
            RoiMove().make(video(1, 0, 48, 64)[0], [box], generator(0, "a", "make"))
    assert RoiMove().available(facts(boxes=(Box(0, 0, 64, 20),)))  # it can go down
    assert not any(negative.available(facts()) for negative in OBJECT_NEGATIVES)


@settings(deadline=None)
@given(framed_boxes(), keys)
def test_mask_and_blur_change_nothing_outside_the_box(boxed: tuple[torch.Tensor, Box], key: str) -> None:
    frame, box = boxed
    area = inside(frame, box)
    for negative in (RoiMask(), RoiBlur()):
        negative_frame = negative.make(frame, [box], generator(0, key, "make"))
        assert torch.equal(negative_frame[~area], frame[~area])
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
def test_a_random_crop_keeps_the_size(boxed: tuple[torch.Tensor, Box], key: str) -> None:
    frame, box = boxed
    negative_frame = RandomCrop().make(frame, [box], generator(0, key, "make"))
    assert negative_frame.shape == frame.shape
    assert negative_frame.dtype == torch.uint8


def test_a_random_crop_enlarges_a_small_part() -> None:
    ramp = torch.arange(200, dtype=torch.uint8).expand(3, 100, 200)
    widths = []
    for key in range(50):
        negative_frame = RandomCrop().make(ramp, [Box(0, 0, 5, 5)], generator(0, str(key), "make"))
        widths.append(int(negative_frame.max()) - int(negative_frame.min()))
    assert max(widths) < 110  # at most sqrt(0.2 * 4/3) of the width
    assert len(set(widths)) > 10


@settings(deadline=None)
@given(framed_boxes(), keys, seeds)
def test_object_negatives_leave_their_input_alone_and_repeat(
    boxed: tuple[torch.Tensor, Box], key: str, seed: int
) -> None:
    frame, box = boxed
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
