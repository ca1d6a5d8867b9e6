"""Frames that the views of a batch share: each travels once, and every view shows what it showed."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from datamodules.vista.batches import VistaBatch
from datamodules.vista.samples import View
from datamodules.vista.shared_frames import distinct_frames, distinct_parts, distinct_units, share_frames
from tests.support.halved_frames import Halved

VIDEO = torch.arange(4 * 3 * 20 * 30).remainder(251).view(4, 3, 20, 30).to(torch.uint8)
OTHER = VIDEO[:, :, :16] + 1


def six_views() -> list[View]:
    """Of one sample, as a data module makes them: 6 x 4 frames, of which 9 are distinct."""
    changed = VIDEO[2:3].clone()
    changed[0, :, 3, 4] = 255
    frames = {
        "original": VIDEO,
        "video_negative": VIDEO.flip(0),
        "clip": VIDEO[[1, 1, 2, 2]],
        "clip_negative": OTHER,
        "object": VIDEO[2:3].repeat(4, 1, 1, 1),
        "object_negative": changed.repeat(4, 1, 1, 1),
    }
    answers = {"chosen": "a"}
    return [View(0, name, video, "q", dict(answers), torch.arange(4.0)) for name, video in frames.items()]  # type: ignore[arg-type]


def sent(batch: VistaBatch) -> int:
    return len(pickle.dumps(batch))


def test_every_view_shows_what_it_showed_from_one_pool_of_each_size() -> None:
    views = six_views()
    shared = share_frames(views)
    assert all(torch.equal(view.frames, before.frames) for view, before in zip(shared, views, strict=True))
    assert {view.num_frames for view in shared} == {4}
    pools = {id(view.pool): view.pool for view in shared}
    assert sorted(pool.shape for pool in pools.values()) == [(4, 3, 16, 30), (5, 3, 20, 30)]
    assert shared[1].places == [3, 2, 1, 0]
    assert shared[4].places == [2] * 4
    # The views that were given are as they were.
    assert all(view.places is None for view in views)


def test_distinct_frames_travel_once() -> None:
    views, mask = six_views(), torch.tensor([True])
    batch = VistaBatch(["a"], share_frames(views), mask)
    frame = VIDEO[0].numel()
    assert sent(VistaBatch(["a"], views, mask)) > 20 * frame + 4 * OTHER[0].numel() - 1
    assert sent(batch) < 5 * frame + 4 * OTHER[0].numel() + 6000
    arrived = pickle.loads(pickle.dumps(batch))  # noqa: S301
    assert arrived.views[0].pool is arrived.views[5].pool
    assert all(torch.equal(a.frames, b.frames) for a, b in zip(arrived.views, views, strict=True))


def test_samples_of_one_video_share_its_frames() -> None:
    first, second = share_frames(six_views()[:2]), share_frames(six_views()[2:5])
    both = share_frames([*first, *second])
    assert len({id(view.pool) for view in both}) == 2
    assert sum(len(pool) for pool in {id(view.pool): view.pool for view in both}.values()) == 8
    for view, before in zip(both, six_views(), strict=False):
        assert torch.equal(view.frames, before.frames)
    assert all(view.pool is again.pool for view, again in zip(both, share_frames(both), strict=True))


def test_resized_are_the_distinct_frames_only() -> None:
    seen: list[Tensor] = []

    class Resizer(Halved):
        def __call__(self, frames: Sequence[Tensor], numbers: Sequence[int]) -> list[Tensor]:
            seen.extend(frames)
            return super().__call__(frames, numbers)

    shared = share_frames(six_views(), Resizer())
    assert len(seen) == 9
    for view, before in zip(shared, six_views(), strict=True):
        assert torch.equal(view.frames, before.frames[:, :, ::2, ::2])


@pytest.mark.parametrize("shared_before", [False, True])
def test_a_size_may_follow_from_how_many_frames_a_view_has(shared_before: bool) -> None:
    """Two views of one video, the second with half of its frames: equal frames, but of two sizes."""
    view = six_views()[0]
    views = [view, view.with_frames(view.frames[:2])]
    if shared_before:
        views = share_frames(views)
        assert views[0].pool is views[1].pool
    ones = share_frames(views, Halved())
    assert ones[0].pool is ones[1].pool
    assert len(ones[0].pool) == 4
    four, two = share_frames(views, Halved(by_number=True))
    assert torch.equal(four.frames, VIDEO[:, :, ::2, ::2])
    assert torch.equal(two.frames, VIDEO[:2, :, ::4, ::4])


def test_a_pool_is_moved_once_and_no_value_of_it_is_read() -> None:
    """A tensor on the device "meta" has no values: reading one, as a comparison on CUDA waits to, is an error."""
    batch = VistaBatch(["a"], share_frames(six_views()), torch.tensor([True]))
    moved = move_data_to_device(batch, torch.device("meta"))
    assert moved.views[0].pool is moved.views[1].pool
    assert moved.views[0].pool.device.type == moved.mask.device.type == "meta"
    assert moved.views[0].times.device.type == "cpu"  # where policies write them into positions
    assert moved.real == [True]
    assert batch.views[0].pool.device.type == "cpu"
    frames, places = distinct_frames(moved.views)
    expected, rows = distinct_units([view.frames for view in batch.views])
    assert places == rows
    assert [frame.shape for frame in frames] == [frame.shape for frame in expected]


@pytest.mark.parametrize("share", [False, True])
def test_distinct_frames_are_those_of_the_views_as_they_are_shown(share: bool) -> None:
    views = share_frames(six_views()) if share else six_views()
    # Some of the views only: frames that none of them shows are not looked at.
    frames, places = distinct_frames(views[2:])
    expected, rows = distinct_units([view.frames for view in views[2:]])
    assert places == rows
    assert len(frames) == 7
    assert all(torch.equal(a, b) for a, b in zip(frames, expected, strict=True))


def pairs_of(view: View) -> Tensor:
    """(U, 2, ...) pairs of frames, the last one filled up with its frame, as processors make them."""
    frames = torch.cat([view.frames, view.frames[-1:]]) if view.num_frames % 2 else view.frames
    return frames.unflatten(0, (-1, 2)).float()


def test_pairs_are_distinct_by_what_they_show_without_a_look_at_their_values() -> None:
    views = share_frames([*six_views(), View(0, "clip", VIDEO[[1, 1, 2]], "q", {})])
    videos = [pairs_of(view) for view in views]
    kinds = [video.shape[1:] for video in videos]
    units, places = distinct_parts(views, [torch.empty_like(video, device="meta") for video in videos], kinds)
    expected, rows = distinct_units(videos, kinds)
    assert places == rows
    assert len(units) == len(expected)
    # The clip's second pair, (2, 2), is the object's and the shorter clip's.
    assert places[6] == places[2]
    assert places[4] == places[2][1:] * 2
    # Of views that do not share their frames the values say it.
    assert distinct_parts(six_views(), videos[:6], kinds[:6])[1] == rows[:6]
    # What else tells units apart does.
    assert len(distinct_parts(views[:1] * 2, videos[:1] * 2, ["a", "b"])[0]) == 4


def test_other_frames_are_a_view_s_own() -> None:
    shared = share_frames(six_views())
    other = shared[1].with_frames(OTHER)
    assert torch.equal(other.frames, OTHER)
    assert other.num_frames == 4
    assert torch.equal(shared[1].frames, VIDEO.flip(0))


def test_pinning_reaches_a_shared_pool_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: calls.append(tensor.numel()) or tensor.clone())
    batch = VistaBatch(["a"], share_frames(six_views()), torch.tensor([True])).pin_memory()
    # Mask and rows of the answers, and a pool for each size of frames.
    assert sorted(calls) == sorted([1, batch.index.numel(), 4 * OTHER[0].numel(), 5 * VIDEO[0].numel()])
    assert batch.views[0].pool is batch.views[1].pool
