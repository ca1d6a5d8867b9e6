"""Videos as bytes: encode, decode chosen frames in one pass, and say what is inside (PyAV).

Frames are counted in the order in which they are shown, from 0; frame i is on screen during [i / fps, (i + 1) / fps)
seconds. Their pixels are those that a player shows, in `probe` and in `decode_frames` alike: upright, square, and in
the colours that the file means (`display`).
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import torch
from av.video.reformatter import Colorspace
from numpy.typing import NDArray
from torch import Tensor

from datamodules.video.containers import HEAD_BYTES, container_format, file_head
from datamodules.video.display import HD_LINES, Display
from datamodules.video.facts import VideoFacts
from datamodules.video.frame_places import FramePlaces, far_apart, frame_places
from datamodules.video.packets import Packet

#: Constant rate factor of the ordinary encoding: visually close to the source, a few kilobytes per toy video.
QUALITY = 17
#: How long x264 looks for a smaller file of the same quality.
Preset = Literal["superfast", "veryfast", "faster", "fast", "medium", "slow"]


def encode_mp4(
    frames: Tensor | NDArray[np.uint8], fps: float, lossless: bool = False, preset: Preset = "medium"
) -> bytes:
    """An H.264 mp4 of the frames.

    Args:
        frames: uint8, (T, H, W, 3) or (T, 3, H, W), at least one frame.
        fps: frames per second.
        lossless: keep every value (RGB at a constant quantiser of 0); `decode_frames` then gives the input back, but
            few players besides ffmpeg's show it. Otherwise 4:2:0, which every player shows, or RGB for odd sizes.
        preset: of x264; medium is its own default.

    Raises:
        ValueError: not uint8 frames of one of the two layouts.
    """
    shown = _channels_last(frames)
    height, width = shown.shape[1:3]
    even = height % 2 == 0 and width % 2 == 0
    rgb = lossless or not even  # 4:2:0 needs even sizes
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        options = {"qp": "0"} if lossless else {"crf": str(QUALITY)}
        if preset != "medium":
            options["preset"] = preset
        # The encoder's fastest routines round differently from call to call; equal frames must give equal bytes.
        options["x264-params"] = "cpu-independent=1"
        rate = Fraction(fps).limit_denominator(1001)  # as mp4 stores it: 23.976 is 24000/1001
        stream: Any = container.add_stream("libx264rgb" if rgb else "libx264", rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "rgb24" if rgb else "yuv420p"
        # One thread: the bytes, and with them a shard's checksums, must not depend on the machine's cores.
        stream.codec_context.thread_count = 1
        # What is not named would be read as BT.709 from 720 lines up, and as the encoder's own BT.601 below.
        colours = Colorspace.ITU709 if height >= HD_LINES and not rgb else None
        if colours:
            stream.codec_context.colorspace = colours
        for image in shown:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if colours:
                frame = frame.reformat(format=stream.pix_fmt, dst_colorspace=colours, threads=1)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def decode_frames(video: bytes | str | Path, indices: Sequence[int]) -> Tensor:
    """The frames at `indices`, in that order, from one pass that stops at the last of them.

    Args:
        video: an encoded video, or the path of one.
        indices: frame numbers from 0, in any order; a repeated number gives a repeated frame.

    Returns:
        (len(indices), 3, H, W) uint8.

    Raises:
        ValueError: "undecodable ...": not a video, damaged, or shorter than the largest index.
    """
    frames = decode_each(video, indices)
    return torch.stack([frames[index] for index in indices])


def decode_each(video: bytes | str | Path, indices: Iterable[int]) -> dict[int, Tensor]:
    """Frame number -> (3, H, W) uint8, for callers that order frames in several ways; else as `decode_frames`."""
    return dict(stream_frames(video, indices))


def stream_frames(video: bytes | str | Path, indices: Iterable[int]) -> Iterator[tuple[int, Tensor]]:
    """(frame number, (3, H, W) uint8) of each frame in `indices`, ascending and each once; one in memory at a time.

    Where they are far apart in a video of a constant rate, what lies before the last key frame on the way to the next
    of them is skipped; the frames are the same.

    Raises:
        ValueError: as `decode_frames`, when the pass comes to the damage; what is skipped is not looked at.
    """
    selected = set(indices)
    if not selected or min(selected) < 0:
        raise ValueError(f"frame numbers must be 0 or more and at least one, not {sorted(selected)}")
    if far_apart(selected) and (places := _frame_places(video)) is not None:
        # Whatever goes wrong between key frames, a pass through all of the video decides what it is.
        with suppress(ValueError):
            for number, frame in _pass(video, sorted(selected), places):
                selected.discard(number)
                yield number, frame
    if selected:
        yield from _pass(video, sorted(selected))


def _pass(
    video: bytes | str | Path, selected: Sequence[int], places: FramePlaces | None = None
) -> Iterator[tuple[int, Tensor]]:
    """The frames of ascending numbers; with `places`, not by way of all frames between them."""
    with _opened(video) as container:
        stream = _video_stream(container)
        images, count = container.decode(stream), 0
        # Of the first frame, wherever the pass goes then.
        if (image := _next_image(images, 0)) is not None:
            display = Display(image, stream.sample_aspect_ratio)
        for number in selected:
            if places is not None and (key := places.key_before(number)) > count:
                images.close()
                container.seek(places.times[key], stream=stream)
                images = container.decode(stream)
                image = _next_image(images, key)
                # It may be an earlier key frame, which costs more and harms nothing.
                count = places.number(image.pts) if image is not None else key
            while image is not None and count < number:
                image, count = _next_image(images, count + 1), count + 1
            if image is None:
                break
            if places is not None and places.number(image.pts) != number:
                raise ValueError("undecodable video: its key frames are not where its packets say")
            yield number, display.frame(image)
        else:
            return
    raise ValueError(f"undecodable frame {selected[-1]}: the video has {count} frames that can be read")


def _frame_places(video: bytes | str | Path) -> FramePlaces | None:
    """Where a video's frames are, from its packets; None where that does not follow from them."""
    packets, frames_per_tick = read_packets(video)
    return frame_places([(packet.time, packet.key, packet.cut) for packet in packets], frames_per_tick)


def read_packets(video: bytes | str | Path) -> tuple[list[Packet], float]:
    """A video's packets in the order of decoding, without decoding one, and its frames a tick; 0 = unknown.

    Raises:
        ValueError: "undecodable ...": not a video.
    """
    with _opened(video) as container:
        stream = _video_stream(container)
        rate, tick = stream.average_rate or stream.guessed_rate, stream.time_base
        packets = [
            Packet(packet.pts, packet.is_keyframe, packet.is_discard, packet.size)
            for packet in container.demux(stream)
            if packet.size
        ]
    return packets, float(rate * tick) if rate and tick else 0.0


def probe(video: bytes | str | Path, constant_rate: bool = False, every_frame: bool = False) -> VideoFacts:
    """Number of frames, frames per second and size, as shown, of a video.

    The number in the header is believed when it equals the number of packets; else every frame is decoded and counted.

    Args:
        video: an encoded video, or the path of one.
        constant_rate: refuse a video with a frame more than one frame's time from its place at a constant rate: no
            event, box or clip in seconds could be found in it.
        every_frame: decode all of them; otherwise damage further on goes unnoticed.

    Raises:
        ValueError: "undecodable ...": not a video, damaged, or without a frame rate; or no constant one; or of high
            dynamic range.
    """
    with _opened(video) as container:
        stream = _video_stream(container)
        claimed, rate = stream.frames, stream.average_rate or stream.guessed_rate
        first = next(container.decode(stream), None)
        if first is None:
            raise ValueError("undecodable video: it has no frame")
        _, height, width = Display(first, stream.sample_aspect_ratio).frame(first).shape
    if not rate:
        raise ValueError("undecodable video: its frame rate is unknown; re-encode it at a constant rate")
    with _opened(video) as container:
        stream = _video_stream(container)
        # Packets are in the order of decoding; frames that an edit list cuts away are packets, too, and not shown.
        times = [packet.pts for packet in container.demux(stream) if packet.size and not packet.is_discard]
        tick = stream.time_base
    if constant_rate and None not in times:
        _require_constant([tick * time for time in sorted(times)], rate)
    if len(times) != claimed:
        with _opened(video) as container:
            claimed = sum(1 for _ in container.decode(_video_stream(container)))
    if every_frame:
        # Only the last frame is kept, but the decoder passes all others on the way.
        decode_each(video, [claimed - 1])
    return VideoFacts(frames=claimed, fps=float(rate), width=width, height=height)


def decode_image(image: bytes) -> Tensor:
    """(3, H, W) uint8 of an encoded picture (`key.frame.jpg`).

    Raises:
        ValueError: "undecodable ...": not a picture.
    """
    import cv2

    # OpenCV gives None for what is no picture, but raises an error of its own for no bytes at all.
    decoded = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR) if image else None
    if decoded is None:
        raise ValueError("undecodable picture: not a JPEG or PNG")
    return torch.from_numpy(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)).permute(2, 0, 1).contiguous()


@contextmanager
def _opened(video: bytes | str | Path) -> Iterator[Any]:
    """The container, with every failure while it is open as a ValueError that begins with "undecodable"."""
    try:
        head = bytes(video[:HEAD_BYTES]) if isinstance(video, bytes | bytearray | memoryview) else file_head(video)
        kind = container_format(head)
    except (ValueError, OSError) as error:
        raise ValueError(f"undecodable video: {error}") from error
    source = io.BytesIO(video) if isinstance(video, bytes | bytearray | memoryview) else str(video)
    try:
        # Named, because a guessed format may be a script; and whatever the container names, no address is opened.
        with av.open(source, format=kind, options={"protocol_whitelist": "file"}) as container:
            yield container
    except (av.error.FFmpegError, EOFError) as error:
        raise ValueError(f"undecodable video: {error}") from error


def _video_stream(container: Any) -> Any:
    if not container.streams.video:
        raise ValueError("undecodable video: it has no picture stream")
    stream = container.streams.video[0]
    # Workers are the parallelism; a pool of threads per video would only cost its start.
    stream.codec_context.thread_count = 1
    return stream


def _next_image(images: Iterator[Any], index: int) -> Any:
    """The next decoded frame, None after the last; `index` is its own, for the error."""
    try:
        image = next(images, None)
    except av.error.FFmpegError as error:
        raise ValueError(f"undecodable video: its data is damaged at about frame {index} ({error.strerror})") from error
    if image is not None and image.is_corrupt:
        raise ValueError(f"undecodable frame {index}: its data is damaged")
    return image


def _require_constant(times: Sequence[Fraction], rate: Fraction) -> None:
    """Refuse frames, shown at these ascending seconds, that are far from where the rate puts them."""
    for index, time in enumerate(times):
        if abs((time - times[0]) * rate - index) > 1:
            raise ValueError(
                f"has no constant frame rate: frame {index} is shown at {float(time - times[0]):.2f} s, at "
                f"{float(rate):.4g} frames a second it would be at {float(index / rate):.2f} s; "
                "`ffmpeg -i VIDEO -fps_mode cfr NEW.mp4` makes one at a constant rate"
            )


def _channels_last(frames: Tensor | NDArray[np.uint8]) -> NDArray[np.uint8]:
    array = frames.cpu().numpy() if isinstance(frames, Tensor) else np.asarray(frames)
    if array.ndim == 4 and array.shape[1] == 3 and array.shape[3] != 3:
        array = array.transpose(0, 2, 3, 1)
    if array.ndim != 4 or array.shape[3] != 3 or array.dtype != np.uint8 or not len(array):
        raise ValueError(f"expected uint8 frames (T, H, W, 3) or (T, 3, H, W), not {array.dtype} {array.shape}")
    return np.ascontiguousarray(array)
