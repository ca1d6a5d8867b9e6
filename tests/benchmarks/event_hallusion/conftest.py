"""A small EventHallusion: questions and videos."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from datamodules.video.codec import encode_mp4
from tests.support.event_world import record


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """entire: bright (two questions, both no) and dark (one); interleave: bright2 (one, yes)."""
    splits = {
        "entire": [record("bright", ["No.", "No."]), record("dark", ["Yes."])],
        "interleave": [record("bright2", ["Yes."])],
    }
    (tmp_path / "questions").mkdir()
    for split, rows in splits.items():
        (tmp_path / "questions" / f"{split}_questions.json").write_text(json.dumps(rows))
    for place, value in (("entire/bright.mp4", 210), ("dark.mp4", 20), ("interleave/bright2.avi", 220)):
        path = tmp_path / "videos" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_mp4(np.full((3, 16, 16, 3), value, np.uint8), fps=4.0))
    return tmp_path
