"""Object views under a processor that crops the centre: 640 x 360 resized to a shorter side of 224, centre 224."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import cache, partial

import cv2
import numpy as np
import pytest
import torch

from datamodules.video.codec import encode_mp4
from datamodules.video.facts import VideoFacts
from datamodules.vista.facts import SampleFacts
from datamodules.vista.frame_samplers import ViewFrames
from datamodules.vista.index_facts import vista_facts
from datamodules.vista.object_negatives import ObjectNegative, PixelBox, RandomCrop, RoiBlur, RoiMask, RoiMove
from datamodules.vista.samples import Box, Needs, PreferenceRow
from datamodules.vista.views import Negatives, Partner, ViewMaker, membership
from datamodules.vista.visible import VisibleRegions
from lightning_modules.policies.frames import frame_pixels, processor_region
from tests.support.negative_inputs import facts

WIDTH, HEIGHT, SIDE = 640, 360, 224
KEYS = [f"s{number:03d}" for number in range(200)]
OBJECT_NEEDS: Needs = {"object": ("chosen",), "object_negative": ("chosen",)}
#: The columns that are left of the frame.
LEFT, RIGHT = 140, 500
#: Boxes that are seen whole, to 80% and to one half.
SEEN = [Box(250, 150, 100, 80), Box(120, 150, 100, 80), Box(90, 150, 100, 80)]


@cache
def processor() -> object:
    from transformers import VideoLlavaVideoProcessor

    return VideoLlavaVideoProcessor()


@cache
def regions() -> VisibleRegions:
    visible = partial(processor_region, processor())
    return VisibleRegions.of(visible, "processor", [sample("any", SEEN[0])])


def sample(key: str, *boxes: Box) -> SampleFacts:
    return facts(key=key, video=VideoFacts(2, 2.0, WIDTH, HEIGHT), boxes=boxes)


@cache
def video(box: Box) -> bytes:
    """Grey, green where the processor cuts it away, with a chequered magenta object."""
    frame = torch.full((3, HEIGHT, WIDTH), 90, dtype=torch.uint8)
    for hidden in (slice(0, LEFT - 4), slice(RIGHT + 4, WIDTH)):
        frame[:, :, hidden] = torch.tensor([0, 255, 0], dtype=torch.uint8)[:, None, None]
    columns, rows = slice(int(box.x), int(box.x + box.width)), slice(int(box.y), int(box.y + box.height))
    chequer = (torch.arange(HEIGHT)[:, None] // 5 + torch.arange(WIDTH) // 5) % 2
    frame[0, rows, columns] = (155 + 100 * chequer)[rows, columns].to(torch.uint8)
    frame[1, rows, columns] = 0
    frame[2, rows, columns] = frame[0, rows, columns]
    return encode_mp4(frame[None].repeat(2, 1, 1, 1), 2.0, lossless=True)


def object_views(key: str, box: Box, negative: ObjectNegative) -> list[torch.Tensor]:
    """The (3, H, W) source frames of the object view and of its negative; none where the sample has no such level."""

    def no_partner(random: np.random.Generator) -> Partner:
        raise AssertionError("no other video is shown")

    row = PreferenceRow(key, "v", "What?", "A.", "B.", VideoFacts(2, 2.0, WIDTH, HEIGHT), boxes=(box,))
    maker = ViewMaker(OBJECT_NEEDS, Negatives(object=negative), ViewFrames(1), seed=0, visible=regions())
    known = SampleFacts.from_index(key, vista_facts(row))
    levels = maker.negatives.levels(maker.visible.seen(known))
    return [view.frames[0] for view in maker(row, known, levels, {"mp4": video(box)}, 0, no_partner)]


def shown(frame: torch.Tensor) -> torch.Tensor:
    """(3, S, S) from 0 to 255: what the tower gets of a frame, its normalisation undone."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (processor().image_mean, processor().image_std))  # type: ignore[attr-defined]
    return (frame_pixels(processor(), [frame])[0] * std + mean) * 255


def magenta(pixels: torch.Tensor) -> torch.Tensor:
    """(S, S) bool: where the object is."""
    return (pixels[0] > 120) & (pixels[2] > 120) & (pixels[1] < 60)


def test_the_region_is_what_the_processor_leaves() -> None:
    assert regions().region(sample("a", SEEN[0])) == PixelBox(LEFT, 0, RIGHT, HEIGHT)
    assert pickle.loads(pickle.dumps(regions())) == regions()  # noqa: S301


@pytest.mark.parametrize("box", SEEN)
def test_a_moved_object_is_seen_at_another_place_in_all_keys(box: Box) -> None:
    positive, _ = object_views(KEYS[0], box, RoiMove())
    before = magenta(shown(positive))
    area = int(before.sum())
    visible = (min(box.x + box.width, RIGHT) - max(box.x, LEFT)) * box.height * (SIDE / HEIGHT) ** 2
    assert area == pytest.approx(visible, rel=0.15)
    for key in KEYS if box == SEEN[0] else KEYS[:40]:
        original, negative = object_views(key, box, RoiMove())
        assert torch.equal(original, positive)
        after = magenta(shown(negative))
        assert int(after.sum()) == pytest.approx(area, rel=0.15), key
        centre_before, centre_after = (mask.nonzero().float().mean(0) for mask in (before, after))
        assert float((centre_before - centre_after).abs().max()) >= 0.05 * SIDE, key


@pytest.mark.parametrize("box", SEEN)
@pytest.mark.parametrize("negative", [RoiMask(), RoiBlur()])
def test_mask_and_blur_change_every_visible_pixel_of_the_object(box: Box, negative: ObjectNegative) -> None:
    for key in KEYS[:: len(KEYS) - 1]:  # they draw nothing: all keys are alike
        original, made = object_views(key, box, negative)
        assert bool((original != made)[0, 150:230, max(int(box.x), LEFT) : int(box.x) + 100].all())
        assert torch.equal(original[..., :LEFT], made[..., :LEFT])
        # Between two squares the tower's pixels have the object's mean already, which no blur changes.
        differs = (shown(original) - shown(made)).abs().amax(0) > 2
        assert float(differs[magenta(shown(original))].float().mean()) > 0.95


def test_a_random_crop_shows_nothing_that_the_processor_hides() -> None:
    for key in KEYS:
        _, made = object_views(key, SEEN[0], RandomCrop())
        pixels = shown(made)
        assert not bool(((pixels[1] > 150) & (pixels[0] < 60)).any()), key


@pytest.mark.parametrize("negative", [RoiMove(), RoiMask(), RoiBlur(), RandomCrop()])
@pytest.mark.parametrize("box", [Box(10, 150, 100, 80), Box(89, 150, 100, 80)])
def test_a_box_less_than_half_visible_takes_no_part(negative: ObjectNegative, box: Box) -> None:
    assert not any(object_views(key, box, negative) for key in KEYS)
    samples = [sample("a", box), sample("b", SEEN[0]), sample("c", SEEN[2])]
    counted = membership([Negatives(object=negative).levels(regions().seen(sample)) for sample in samples])["object"]
    assert counted.tolist() == [False, True, True]


def test_the_remark_counts_what_takes_no_part() -> None:
    hidden = Box(10, 150, 100, 80)
    samples = [sample("a", hidden), sample("b", SEEN[0]), sample("c", hidden, SEEN[0]), sample("d")]
    assert "1 of 3 samples with boxes take no part" in str(regions().remark(samples))
    assert "'a'" in str(regions().remark(samples))
    assert regions().remark(samples[1:]) is None


def test_the_moment_is_one_at_which_the_object_is_seen() -> None:
    moving = sample("a", replace(SEEN[0], time=0.1), Box(10, 150, 100, 80, 0.5))
    assert moving.moment() == 0.5
    seen = regions().seen(moving)
    assert seen.moment() == 0.1
    assert seen.moment_boxes() == (Box(110, 150, 100, 80, 0.1),)


def test_a_box_that_passes_its_frame_is_measured_by_what_is_inside() -> None:
    edge = Box(LEFT, -0.9, 100, 1.0)  # a tenth of a row is in the frame, all of it visible
    assert regions().seen(sample("a", edge)).boxes == (Box(0, -0.9, 100, 1.0),)


def test_a_frame_that_is_seen_whole_leaves_everything_as_it_was() -> None:
    visible = partial(processor_region, processor())
    square = replace(sample("a", Box(1, 2, 30, 40)), video=VideoFacts(2, 2.0, 360, 361))
    whole = VisibleRegions.of(visible, "processor", [square])
    assert whole.regions == {}
    assert whole.seen(square) is square
    assert Negatives().describe(whole) == Negatives().describe()


def test_the_description_names_the_geometry_where_it_matters() -> None:
    plain = Negatives().describe()
    cropped = Negatives().describe(regions())
    assert cropped["object"]["visible"] == {"640x360": [LEFT, 0, RIGHT, HEIGHT]}
    assert (cropped["video"], cropped["clip"]) == (plain["video"], plain["clip"])
    squashed = Negatives().describe(VisibleRegions({}, "squash"))
    assert all(level["frame_fit"] == "squash" for level in squashed.values())


def test_a_picture_of_another_size_than_the_cropped_video_is_refused() -> None:
    size = VideoFacts(2, 2.0, 320, HEIGHT)
    row = PreferenceRow("a", "v", "What?", "A.", "B.", size, boxes=(SEEN[0],), key_frame=True)
    maker = ViewMaker(
        OBJECT_NEEDS, Negatives(), ViewFrames(1), seed=0, visible=VisibleRegions({(HEIGHT, 320): PixelBox(2, 0, 9, 9)})
    )
    known = replace(SampleFacts.from_index("a", vista_facts(row)), boxes=(Box(2, 0, 3, 3),))
    jpeg = cv2.imencode(".jpg", np.zeros((HEIGHT, 640, 3), np.uint8))[1].tobytes()
    with pytest.raises(ValueError, match="is 640 x 360, the video 320 x 360"):
        maker(row, known, {"object"}, {"frame.jpg": jpeg}, 0, lambda random: None)  # type: ignore[arg-type,return-value]
    row, known = replace(row, key_frame=False), replace(known, key_frame=False)
    with pytest.raises(ValueError, match="is shown at 640 x 360, the index says 320 x 360"):
        maker(row, known, {"object"}, {"mp4": video(SEEN[0])}, 0, lambda random: None)  # type: ignore[arg-type,return-value]
