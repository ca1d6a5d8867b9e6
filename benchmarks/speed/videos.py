"""Videos to decode, a moving texture of any size and of any length, and samples that show one."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.schemas import write_shards
from datamodules.video.codec import encode_mp4
from datamodules.video.facts import VideoFacts
from datamodules.vista.samples import Box, PreferenceRow

FPS = 24.0
#: Question, chosen, rejected and irrelevant answer of a sample by its number.
Texts = Callable[[int], tuple[str, str, str, str]]


def moving_texture(frames: int, height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """(T, H, W, 3) frames of a smooth random texture that moves over the screen, as a camera's turn does."""
    import cv2

    noise = np.random.default_rng(seed).integers(0, 255, (height + frames, width + frames, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), max(1.0, width / 320))
    texture = ((smooth - smooth.min()) / (smooth.max() - smooth.min()) * 255).astype(np.uint8)
    return np.stack([texture[number : number + height, number : number + width] for number in range(frames)])


def texture_video(frames: int, height: int, width: int, seed: int = 0) -> bytes:
    """An H.264 mp4 of it, with a key frame every 250 frames as x264 has it by default."""
    return encode_mp4(torch.from_numpy(moving_texture(frames, height, width, seed)), FPS, preset="superfast")


def repeated(video: bytes, times: int, target: Path) -> None:
    """Write a video that shows another one several times; its packets are copied, nothing is encoded.

    Args:
        video: an mp4.
        times: how often.
        target: the file.
    """
    with av.open(str(target), "w", format="mp4") as output:
        stream = None
        for number in range(times):
            with av.open(io.BytesIO(video)) as source:
                original = source.streams.video[0]
                stream = stream or output.add_stream_from_template(original)
                assert original.average_rate is not None
                assert original.time_base is not None
                length = int(original.frames / original.average_rate / original.time_base)
                for packet in source.demux(original):
                    if packet.dts is None:
                        continue
                    assert packet.pts is not None
                    packet.pts += number * length
                    packet.dts += number * length
                    packet.stream = stream
                    output.mux(packet)


def write_samples(folder: Path, count: int, facts: VideoFacts, seed: int, texts: Texts | None = None) -> Path:
    """Write shards of VistaDPO's samples, all with one video, an event and a box; the index's file.

    Args:
        folder: of the shards.
        count: samples, each in a shard of its own: webdataset hands out shards to workers.
        facts: of the video.
        seed: of the texture.
        texts: of a sample; None = some.
    """
    video, length = texture_video(facts.frames, facts.height, facts.width, seed), facts.frames / facts.fps
    box = Box(facts.width // 4, facts.height // 4, facts.width // 2, facts.height // 2)

    def samples() -> Iterator[tuple[str, dict[str, bytes]]]:
        for number in range(count):
            key = f"sample{number:04d}"
            said = ("What moves?", "The texture.", "A dog.", "No.") if texts is None else texts(number)
            question, chosen, rejected, irrelevant = said
            row = PreferenceRow(
                key, key, question, chosen, rejected, facts, irrelevant, event=(length / 4, length / 2), boxes=(box,)
            )
            yield key, {"json": json.dumps(row.to_json()).encode(), "mp4": video}

    write_shards(samples(), folder / "samples", samples_per_shard=1)
    return folder / "samples.index.json"
