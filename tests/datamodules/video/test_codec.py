from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from datamodules.video.codec import decode_frames, decode_image, encode_mp4, probe, stream_frames
from datamodules.video.facts import VideoFacts
from datamodules.video.fit_frame import fit_frame
from tests.support.annotated_videos import timed_video


@pytest.fixture(scope="module")
def frames() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (12, 3, 34, 50), dtype=np.uint8))


@pytest.fixture(scope="module")
def lossless(frames: torch.Tensor) -> bytes:
    return encode_mp4(frames, 8, lossless=True)


def test_lossless_encoding_gives_every_value_back(frames: torch.Tensor, lossless: bytes) -> None:
    assert torch.equal(decode_frames(lossless, range(12)), frames)


def test_channels_last_and_first_are_the_same_video(frames: torch.Tensor, lossless: bytes) -> None:
    assert encode_mp4(frames.permute(0, 2, 3, 1).numpy(), 8, lossless=True) == lossless


@pytest.mark.parametrize("size", [(34, 50), (33, 49)])
def test_lossy_encoding_is_close_keeps_the_size_and_repeats(size: tuple[int, int]) -> None:
    height, width = size
    ramp = torch.arange(width, dtype=torch.uint8).mul(5).expand(6, 3, height, width)
    video = encode_mp4(ramp, 12.5)
    assert video == encode_mp4(ramp, 12.5)
    decoded = decode_frames(video, range(6))
    assert decoded.shape == (6, 3, height, width)
    assert (decoded.float() - ramp.float()).abs().mean() < 4
    assert probe(video) == VideoFacts(6, 12.5, width, height)


def test_chosen_frames_come_in_the_order_asked_for_with_repeats(frames: torch.Tensor, lossless: bytes) -> None:
    chosen = [7, 0, 7, 3]
    assert torch.equal(decode_frames(lossless, chosen), frames[chosen])


def test_a_path_is_as_good_as_bytes(tmp_path: Path, lossless: bytes) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(lossless)
    assert probe(path) == probe(lossless) == VideoFacts(12, 8.0, 50, 34)
    assert torch.equal(decode_frames(path, [5]), decode_frames(lossless, [5]))


def test_frames_are_counted_when_the_header_has_no_number(frames: torch.Tensor, tmp_path: Path) -> None:
    path = tmp_path / "video.mkv"  # Matroska has no frame count
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=8)
        stream.width, stream.height, stream.pix_fmt = 50, 34, "bgr0"
        for image in frames[:9].permute(0, 2, 3, 1).numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 0
    assert probe(path).frames == 9


def test_a_video_stored_sideways_comes_out_upright(frames: torch.Tensor, lossless: bytes) -> None:
    # The matrix in the track header shows (x, y) at (-y, x): a quarter turn clockwise, as of a phone held upright.
    header = lossless.index(b"tkhd")
    matrix = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    place = header + 4 + 40
    assert struct.unpack(">9i", lossless[place : place + 36])[0] == 1 << 16
    sideways = lossless[:place] + matrix + lossless[place + 36 :]
    assert probe(sideways) == VideoFacts(12, 8.0, 34, 50)
    assert torch.equal(decode_frames(sideways, [3])[0], frames[3].transpose(1, 2).flip(2))


def test_what_cannot_be_decoded_says_so(lossless: bytes) -> None:
    damaged = bytearray(lossless)
    damaged[len(damaged) // 2 : len(damaged) // 2 + 3000] = bytes(3000)
    for broken in (b"", b"no video" * 20, lossless[: len(lossless) // 2], bytes(damaged)):
        with pytest.raises(ValueError, match=r"^undecodable"):
            decode_frames(broken, [11])
    with pytest.raises(ValueError, match=r"undecodable frame 12: the video has 12 frames"):
        decode_frames(lossless, [0, 12])
    with pytest.raises(ValueError, match=r"^undecodable"):
        probe(b"no video")


def test_a_changing_frame_rate_is_refused_where_a_constant_one_is_asked_for() -> None:
    uneven = timed_video([*range(0, 1000, 100), *range(1000, 10_000, 900)])
    assert probe(uneven).frames == 20
    with pytest.raises(ValueError, match=r"^has no constant frame rate: frame 2 is shown at 0.20 s, at 2.6"):
        probe(uneven, constant_rate=True)


@pytest.mark.parametrize("shown", [[0], [0, 33, 67, 100, 133, 167, 200], [500, 600, 700, 900, 1000, 1100]])
def test_rounded_times_a_late_start_and_a_dropped_frame_are_constant_enough(shown: list[int]) -> None:
    assert probe(timed_video(shown), constant_rate=True).frames == len(shown)


def test_sound_alone_is_not_a_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(ValueError, match="no picture stream"):
        probe(path)


def test_wrong_arguments_are_refused(lossless: bytes) -> None:
    with pytest.raises(ValueError, match="uint8"):
        encode_mp4(torch.zeros(2, 3, 8, 8), 8)
    with pytest.raises(ValueError, match="frame numbers"):
        decode_frames(lossless, [-1])
    with pytest.raises(ValueError, match="frame numbers"):
        decode_frames(lossless, [])


def test_a_picture_is_decoded_as_rgb() -> None:
    import cv2

    image = np.zeros((8, 10, 3), np.uint8)
    image[..., 0] = 200  # red, in RGB
    decoded = decode_image(cv2.imencode(".png", image[..., ::-1])[1].tobytes())
    assert torch.equal(decoded, torch.from_numpy(image).permute(2, 0, 1))
    for broken in (b"", b"no picture"):
        with pytest.raises(ValueError, match="undecodable picture"):
            decode_image(broken)


def test_frames_stream_in_order_each_once_and_a_short_video_says_so(frames: torch.Tensor, lossless: bytes) -> None:
    streamed = list(stream_frames(lossless, [7, 2, 7]))
    assert [number for number, _ in streamed] == [2, 7]
    assert torch.equal(streamed[1][1], frames[7])
    stream = stream_frames(lossless, [11, 12])
    assert next(stream)[0] == 11
    with pytest.raises(ValueError, match="undecodable frame 12: the video has 12 frames"):
        next(stream)


@pytest.mark.parametrize(("height", "width"), [(34, 50), (20, 20), (68, 100), (10, 50)])
def test_a_frame_is_resized_to_cover_and_its_middle_cut_out(frames: torch.Tensor, height: int, width: int) -> None:
    fitted = fit_frame(frames[0], height, width)
    assert fitted.shape == (3, height, width)
    assert fitted.dtype == torch.uint8
    if (height, width) == (34, 50):
        assert torch.equal(fitted, frames[0])
    if (height, width) == (10, 50):
        assert torch.equal(fitted, frames[0, :, 12:22])


def test_resizing_keeps_the_middle_in_the_middle() -> None:
    frame = torch.zeros(3, 40, 80, dtype=torch.uint8)
    frame[:, 15:25, 35:45] = 255
    fitted = fit_frame(frame, 20, 20)
    assert fitted[:, 8:12, 8:12].min() > 240
    assert fitted[:, :5].max() < 15
    assert torch.equal(fitted, fitted.flip(1, 2))
