"""Videos that are damaged, no videos, or of another frame rate than they say: each is a fault of its row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datamodules.prepare.own_videos import prepare_jsonl
from datamodules.prepare.videos import prepare_videos
from tests.support.shown_videos import CASES
from tests.support.small_clips import lines

#: File -> what is said of it when every frame is decoded. Both have 48 frames and begin soundly.
DAMAGED = {
    "midcorrupt": "undecodable video: its data is damaged at about frame",
    "zerotail": "undecodable video: its data is damaged at about frame",
}
NO_VIDEO = ("lfs", "html")
CONSTANT = "`ffmpeg -i VIDEO -fps_mode cfr NEW.mp4` makes one at a constant rate"
GOOD = ("ok", "jitter")


def annotations(folder: Path, *names: str) -> Path:
    path = folder / "rows.jsonl"
    rows = [
        {"video": f"{name}.mp4", "question": "What?", "chosen": "Red.", "rejected": "Blue.", "caption": "A square."}
        for name in names
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def for_jsonl(folder: Path, *names: str) -> Path:
    path = annotations(folder, *names)
    path.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "caption"}) + "\n" for row in lines(path)))
    return path


def faults(folder: Path) -> dict[str, str]:
    """Video -> its fault in the list of skipped rows."""
    skipped = lines(folder / "out.skipped.jsonl")
    assert all([fault["field"] for fault in row["faults"]] == ["video"] for row in skipped)
    return {Path(row["content"]["video"]).stem: row["faults"][0]["why"] for row in skipped}


def test_skip_bad_leaves_out_every_damaged_video(tmp_path: Path) -> None:
    rows = for_jsonl(tmp_path, *DAMAGED, *NO_VIDEO, "vfr", *GOOD)
    index = prepare_jsonl(rows, tmp_path / "out", videos=CASES, skip_bad=True)
    assert [entry.facts["video_id"] for entry in index.entries] == ["ok.mp4", "jitter.mp4"]
    messages = faults(tmp_path)
    assert list(messages) == [*DAMAGED, *NO_VIDEO, "vfr"]
    assert all(messages[name].startswith(why) for name, why in DAMAGED.items())
    assert all(messages[name].startswith("undecodable video: ") for name in NO_VIDEO)
    assert CONSTANT in messages["vfr"]


def test_a_quick_check_decodes_the_first_frame_alone(tmp_path: Path) -> None:
    rows = for_jsonl(tmp_path, *DAMAGED, "ok")
    assert len(prepare_jsonl(rows, tmp_path / "quick", videos=CASES, check="quick")) == 3
    with pytest.raises(ValueError, match="2 of 3 rows are bad"):
        prepare_jsonl(rows, tmp_path / "full", videos=CASES)


@pytest.mark.parametrize("check", ["full", "quick"])
def test_clips_before_the_damage_are_refused_unless_the_check_is_quick(tmp_path: Path, check: str) -> None:
    captions = annotations(tmp_path, "zerotail", *NO_VIDEO, "vfr", *GOOD)
    index = prepare_videos(
        [str(CASES / f"{row['video']}") for row in lines(captions)],
        str(tmp_path / "out"),
        str(captions),
        height=48,
        width=64,
        num_frames=5,
        fps=12.0,
        skip_bad=True,
        check=check,  # type: ignore[arg-type]
    )
    kept = ["ok.mp4", "jitter.mp4"] if check == "full" else ["zerotail.mp4", "ok.mp4", "jitter.mp4"]
    assert [entry.facts["video_id"] for entry in index.entries] == kept
    assert ("zerotail" in faults(tmp_path)) == (check == "full")


def test_a_damaged_clip_is_a_fault_whatever_the_check(tmp_path: Path) -> None:
    captions = annotations(tmp_path, "midcorrupt", "ok")
    index = prepare_videos(
        [str(CASES / "midcorrupt.mp4"), str(CASES / "ok.mp4")],
        str(tmp_path / "out"),
        str(captions),
        height=48,
        width=64,
        num_frames=21,
        fps=12.0,
        skip_bad=True,
        check="quick",  # type: ignore[arg-type]
    )
    assert [entry.facts["video_id"] for entry in index.entries] == ["ok.mp4"]
    assert faults(tmp_path)["midcorrupt"].startswith(DAMAGED["midcorrupt"])
