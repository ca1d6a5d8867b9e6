"""Where the frames of a video are, so that a few of many are decoded without those between them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

#: Fewer frames between two that are shown are decoded sooner than looked up.
_LEAST_GAP = 64


@dataclass(frozen=True, slots=True)
class FramePlaces:
    """Times and key frames of a video.

    Attributes:
        times: of each frame, by its number, in ticks of the stream.
        keys: the numbers of the key frames, ascending.
    """

    times: Sequence[int]
    keys: Sequence[int]
    _numbers: dict[int, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_numbers", {time: number for number, time in enumerate(self.times)})

    def key_before(self, number: int) -> int:
        """The last key frame up to a frame; 0 where there is none."""
        place = bisect_right(self.keys, number)
        return self.keys[place - 1] if place else 0

    def number(self, time: int | None) -> int:
        """The number of the frame at a time.

        Raises:
            ValueError: no frame is there.
        """
        if time not in self._numbers:
            raise ValueError(f"undecodable video: no packet is of a frame at {time} ticks")
        return self._numbers[time]


def far_apart(numbers: Collection[int]) -> bool:
    """Whether key frames between frames of these numbers, or before the first, may be worth looking for."""
    return any(later - earlier > _LEAST_GAP for earlier, later in pairwise(sorted({0, *numbers})))


def frame_places(packets: Sequence[tuple[int | None, bool, bool]], frames_per_tick: float) -> FramePlaces | None:
    """The places of a video's frames.

    Args:
        packets: time, whether a key frame and whether cut away by an edit list, of each; in any order.
        frames_per_tick: frames per second times the seconds of a tick; 0 = unknown.

    Returns:
        None where numbers do not follow from times: a packet has none, frames are cut away or repeat a time, the rate
        is not constant, or there is one key frame only.
    """
    times = sorted(time for time, _, cut in packets if time is not None and not cut)
    if len(times) != len(packets) or len(set(times)) != len(times) or not frames_per_tick:
        return None
    # As `probe` asks of a video in which seconds mean anything.
    if any(abs((time - times[0]) * frames_per_tick - number) > 1 for number, time in enumerate(times)):
        return None
    places = FramePlaces(times, ())
    keys = sorted(places.number(time) for time, key, _ in packets if key)
    return FramePlaces(times, keys) if len(keys) > 1 else None
