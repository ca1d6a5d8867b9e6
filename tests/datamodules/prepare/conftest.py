"""Videos that the tables of pairs name."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.video.codec import encode_mp4
from tests.support.annotated_videos import numbered_frames
from tests.support.generated_pairs import NAMES


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every video that the examples name: first ones of 13 frames at 8 a second, second ones of 9."""
    folder = tmp_path_factory.mktemp("media")
    for place, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        count = 13 if place % 2 == 0 else 9
        content = encode_mp4(numbered_frames(2 * place, count=count), 8.0, lossless=True)
        (folder / f"{name}.mp4").write_bytes(content)
    return folder
