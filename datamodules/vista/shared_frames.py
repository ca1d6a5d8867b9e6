"""Frames that the views of a batch share: every distinct one once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from datamodules.vista.samples import View

Key = TypeVar("Key", bound=Hashable)


class ResizeFrames(Protocol):
    """Frames made smaller, of which the policy's scores are the same. Run in loader workers, so it can be pickled.

    A frame that is given back itself counts as not resized; a view's frames are resized all or none.
    """

    @property
    def by_number(self) -> bool:
        """Whether the size of a frame follows from how many frames its view has, too."""

    def __call__(self, frames: Sequence[Tensor], numbers: Sequence[int]) -> Sequence[Tensor]:
        """U frames (3, H, W) uint8 of any sizes, and of how many frames the view of each is -> U smaller ones."""


#: About how many values of a unit decide whether it is compared with another.
_SAMPLED_VALUES = 1024


def share_frames(views: Sequence[View], resize: ResizeFrames | None = None) -> list[View]:
    """The same views, those with frames of one size drawing from one pool that holds every distinct frame once.

    The six views of a 1080p sample then take 150 MB instead of 300; resized to a tower's 224 pixels 4 MB.

    Args:
        views: of a sample or a batch.
        resize: makes the distinct frames smaller; None = they stay as they are.
    """
    pools = list({id(view.pool): view.pool for view in views}.values())
    one_each = len({pool.shape[1:] for pool in pools}) == len(pools)
    if resize is None and one_each and all(view.places is not None for view in views):
        return list(views)  # shared already
    by_number = resize is not None and resize.by_number
    # By pool, and where a view's number of frames decides their size, by that: equal frames then are not.
    shown_in = {_shown(view, by_number): view for view in views}
    units, rows = distinct_units([view.pool for view in shown_in.values()], [number for _, number in shown_in])
    units_of = dict(zip(shown_in, rows, strict=True))
    originals = units
    if resize is not None:
        numbers = {place: view.num_frames for view, row in zip(shown_in.values(), rows, strict=True) for place in row}
        units = list(resize(units, [numbers[place] for place in range(len(units))]))
    # A pool for each size; where each unit is in its own.
    members: dict[torch.Size, list[int]] = defaultdict(list)
    for place, unit in enumerate(units):
        members[unit.shape].append(place)
    shared = {shape: torch.stack([units[place] for place in places]) for shape, places in members.items()}
    within = {place: position for places in members.values() for position, place in enumerate(places)}
    made = []
    for view in views:
        row = units_of[_shown(view, by_number)]
        shown = row if view.places is None else [row[place] for place in view.places]
        first = shown[0]
        made.append(
            replace(
                view,
                pool=shared[units[first].shape],
                places=[within[place] for place in shown],
                is_resized=view.is_resized or units[first] is not originals[first],
            )
        )
    return made


def _shown(view: View, by_number: bool) -> tuple[int, int]:
    return id(view.pool), view.num_frames if by_number else 0


def distinct_frames(views: Sequence[View]) -> tuple[list[Tensor], list[list[int]]]:
    """The distinct frames of views, as `distinct_units`; of views that share theirs no value is read."""
    if any(view.places is None for view in views):
        return distinct_units([view.frames for view in views])
    shown = [[(id(view.pool), place) for place in view.places or ()] for view in views]
    pools = {id(view.pool): view.pool for view in views}
    frames, rows = _numbered(shown)
    return [pools[pool][place] for pool, place in frames], rows


def distinct_parts(
    views: Sequence[View], videos: Sequence[Tensor], kinds: Sequence[Hashable]
) -> tuple[list[Tensor], list[list[int]]]:
    """The distinct units of what was made of views' frames, as `distinct_units`; of shared frames no value is read.

    Args:
        views: V views.
        videos: (U, ...) each, a unit of a view's every frame, or of every so many frames, the last one filled up.
        kinds: per view what else its units must agree in.
    """
    if any(view.places is None for view in views):
        return distinct_units(videos, kinds)
    shown: list[list[tuple[Hashable, int, tuple[int, ...]]]] = []
    made: dict[Hashable, Tensor] = {}
    for view, video, kind in zip(views, videos, kinds, strict=True):
        shown.append([(kind, id(view.pool), part) for part in _parts(view.places or [], len(video))])
        for key, unit in zip(shown[-1], video, strict=True):
            made.setdefault(key, unit)
    units, rows = _numbered(shown)
    return [made[unit] for unit in units], rows


def _parts(places: Sequence[int], number: int) -> list[tuple[int, ...]]:
    """Places in `number` parts of one length, filled up with the last place."""
    size = -(-len(places) // number)
    filled = [*places, *[places[-1]] * (number * size - len(places))]
    return [tuple(filled[start : start + size]) for start in range(0, len(filled), size)]


def _numbered(rows: Sequence[Sequence[Key]]) -> tuple[list[Key], list[list[int]]]:
    """The distinct keys of rows in their order, and per row which of them is where."""
    numbers: dict[Key, int] = {}
    numbered = [[numbers.setdefault(key, len(numbers)) for key in row] for row in rows]
    return list(numbers), numbered


def distinct_units(
    videos: Sequence[Tensor], kinds: Sequence[Hashable] | None = None
) -> tuple[list[Tensor], list[list[int]]]:
    """The distinct units of a batch's videos, where a unit is what a tower sees by itself: a frame, a pair of frames.

    A reversed or shuffled video has the frames of its original, and an object view repeats a single frame, so that the
    six views of a sample hold about half as many distinct frames as frames.

    Args:
        videos: V tensors (T, ...), T units each; T and the units' shape may differ.
        kinds: per video what else its units must agree in.

    Returns:
        U units, and per video which of them is where.
    """
    units: list[Tensor] = []
    known: dict[tuple[Hashable, tuple[int, ...], bytes], list[int]] = {}
    places: list[list[int]] = []
    for video, kind in zip(videos, kinds or [None] * len(videos), strict=True):
        row = []
        for unit, sample in zip(video, _sampled(video), strict=True):
            # Only candidates have equal samples; an exact comparison makes two units one.
            candidates = known.setdefault((kind, tuple(unit.shape), sample), [])
            same = next((place for place in candidates if torch.equal(units[place], unit)), None)
            if same is None:
                same = len(units)
                candidates.append(same)
                units.append(unit)
            row.append(same)
        places.append(row)
    return units, places


def _sampled(video: Tensor) -> list[bytes]:
    """Of each of a video's T units the bits of about a thousand values, which units with other bits rarely share."""
    flat = video.flatten(1)
    # Odd, so that no side of a picture, which is even as a rule, has a sample in few of its columns only.
    stride = max(1, flat.shape[1] // _SAMPLED_VALUES) | 1
    # numpy has no bfloat16: as bytes.
    sampled = flat[:, ::stride].contiguous().view(torch.uint8).cpu().numpy()
    return [row.tobytes() for row in sampled]
