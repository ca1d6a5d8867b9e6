"""Few frames of many: the frames of a whole pass, without decoding all that lies between."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
import torch

from datamodules.video import codec
from datamodules.video.codec import decode_each, decode_frames
from datamodules.video.frame_places import FramePlaces, far_apart, frame_places

COUNT, KEY_EVERY = 240, 40
#: One before, at and behind a key frame, the first and the last, and two between the same key frames.
CHOSEN = [0, 119, 120, 201, 210, 239]


def picture(number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A moving square on a slope; no two are equal."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[..., 0] = np.arange(64) * 2
    image[..., 2] = number % 251
    left = number * 3 % 50
    image[10:24, left : left + 12, 1] = 200
    return image


def video(kind: str = "mp4", times: list[int] | None = None, **options: str) -> bytes:
    """Frames with key frames every 40, or at other times of 1/25 s."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        settings = {"g": str(KEY_EVERY), "keyint_min": str(KEY_EVERY), "sc_threshold": "0", "bf": "3", **options}
        stream: Any = container.add_stream("libx264", rate=25, options=settings)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = Fraction(1, 25)
        for number in range(COUNT):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = number if times is None else times[number], Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


class Decoded:
    """Counts the frames that come out of the decoder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, real = 0, codec._next_image

        def counted(images: Any, index: int) -> Any:
            self.count += 1
            return real(images, index)

        monkeypatch.setattr(codec, "_next_image", counted)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("mp4", {}),
        ("mp4", {"x264-params": "open-gop=1"}),
        ("matroska", {}),
        ("mp4", {"bf": "0", "tune": "zerolatency"}),
    ],
)
def test_skipping_gives_the_frames_of_a_whole_pass(
    kind: str, options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = video(kind, **options)
    expected = decode_frames(content, range(COUNT))
    decoded = Decoded(monkeypatch)
    frames = decode_each(content, CHOSEN)
    assert list(frames) == CHOSEN
    assert all(torch.equal(frame, expected[number]) for number, frame in frames.items())
    # At most from a key frame to the next each time.
    assert decoded.count < 150
    assert torch.equal(decode_frames(content, [230, 3]), expected[[230, 3]])


@pytest.mark.parametrize("case", ["one key frame", "a changing rate"])
def test_all_is_decoded_where_places_do_not_follow(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    times = [number if number < 100 else 2 * number - 100 for number in range(COUNT)]
    content = {
        "one key frame": lambda: video(g="1000", keyint_min="1000"),
        "a changing rate": lambda: video(times=times),
    }[case]()
    expected = decode_frames(content, range(COUNT))
    decoded = Decoded(monkeypatch)
    frames = decode_each(content, CHOSEN)
    assert all(torch.equal(frame, expected[number]) for number, frame in frames.items())
    assert decoded.count == COUNT


@pytest.mark.parametrize("wrong", ["times", "keys"])
def test_places_that_do_not_hold_are_not_believed(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times that are not the frames', and key frames that are none."""
    content = video()
    expected = decode_frames(content, CHOSEN)
    places = codec._frame_places(content)
    assert places is not None
    shifted = FramePlaces([time + 1 for time in places.times], places.keys)
    given = shifted if wrong == "times" else FramePlaces(places.times, list(range(COUNT)))
    monkeypatch.setattr(codec, "_frame_places", lambda _: given)
    assert torch.equal(decode_frames(content, CHOSEN), expected)


def test_a_frame_that_a_decoder_leaves_out_behind_a_key_frame_does_not_shift_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = video()
    expected = decode_frames(content, CHOSEN)
    real, calls = codec._next_image, iter(range(COUNT * 2))

    def dropping(images: Any, index: int) -> Any:
        if next(calls) == 5:
            real(images, index)
        return real(images, index)

    monkeypatch.setattr(codec, "_next_image", dropping)
    assert torch.equal(decode_frames(content, CHOSEN), expected)


def test_a_short_video_says_so_behind_key_frames_too() -> None:
    with pytest.raises(ValueError, match="undecodable frame 500: the video has 240 frames"):
        decode_frames(video(), [0, 500])


def test_near_frames_are_not_looked_up() -> None:
    assert not far_apart(range(0, 600, 60))
    assert far_apart([100])
    assert far_apart([0, 65])


def test_places_follow_from_times_in_any_order() -> None:
    packets = [(0, True, False), (30, False, False), (10, False, False), (20, True, False)]
    places = frame_places(packets, 0.1)
    assert places == FramePlaces([0, 10, 20, 30], [0, 2])
    assert [places.key_before(number) for number in range(4)] == [0, 0, 2, 2]
    for change in ((None, False, False), (30, False, True), (20, False, False), (60, False, False)):
        assert frame_places([packets[0], change, *packets[2:]], 0.1) is None
    assert frame_places(packets, 0.0) is None
