"""A small test set: questions, answers and videos."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.qa_world import write_json, write_video


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Four questions about two videos of ActivityNet: one right, one nearly, one wrong, one in other words."""
    asked = [("bright", "what is shining", "sun", 5), ("dark", "what is shining", "sun", 5),
             ("bright", "how many are there", "two", 7), ("bright", "is it shining", "the sun", 3)]  # fmt: skip
    names = [f"v_{video}_{number}" for number, (video, *_) in enumerate(asked)]
    write_json(
        tmp_path / "test_q.json",
        [
            {"video_name": video, "question": question, "question_id": name}
            for name, (video, question, *_) in zip(names, asked, strict=True)
        ],
    )
    answers = [
        {"answer": answer, "type": kind, "question_id": name}
        for name, (*_, answer, kind) in zip(names, asked, strict=True)
    ]
    write_json(tmp_path / "test_a.json", answers[::-1])
    write_video(tmp_path / "videos" / "v_bright.mp4", 220)
    write_video(tmp_path / "videos" / "dark.mkv", 20)
    return tmp_path
