"""Preference data of other suites to shards: every format's rows with their values."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.prepare.preferences import prepare_preferences
from datamodules.prepare.verify import verify
from datamodules.video.codec import decode_frames
from tests.support.annotated_videos import numbered_video, numbers
from tests.support.preference_files import (
    CHOSEN,
    FORMATS,
    NAMES,
    QUESTION,
    REJECTED,
    SWIFT,
    content_of,
    nearest,
    rows_of,
    trl_row,
    write_media,
    written,
)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_media(tmp_path_factory.mktemp("media"))


@pytest.mark.parametrize(
    ("file", "format_", "video", "source", "facts"),
    [
        ("llamafactory_sharegpt_dpo.json", "llamafactory", "clips/kitchen_01.mp4", "llamafactory", {}),
        ("llamafactory_alpaca_dpo.json", "llamafactory", "clips/kitchen_01.mp4", "llamafactory", {}),
        ("llamafactory_v1_dpo.jsonl", "llamafactory_v1", "clips/kitchen_01.mp4", "llamafactory_v1", {}),
        ("qwen_vl_finetune_dpo.json", "qwen_vl", "kitchen_01.mp4", "qwen_vl", {"id": "kitchen_01_0"}),
        (
            "verl_omni.parquet",
            "verl_omni",
            "clips/kitchen_01.mp4",
            "verl_omni",
            {"data_source": "my_video_preference", "ability": "video_qa", "win_score": 8.0, "lose_score": 5.0},
        ),
        (
            "llava_hound_dpo.jsonl",
            "llava_hound",
            "v_0001-Scene-001",
            "llava_hound",
            {
                "id": "v_0001-Scene-001_0",
                "answer": "She adds them to the pan.",
                "chosen_score": 4.0,
                "rejected_score": 2.0,
            },
        ),
        ("longvpo.jsonl", "longvpo", "long/abc.mp4", "longvpo/action order", {"task_type": "action order"}),
        ("unified_reward_video_dpo.json", "unified_reward", "clips/kitchen_01.mp4", "unified_reward", {"id": "0"}),
        (
            "omni_preference_video.jsonl",
            "omni_preference",
            "academic_source/Charades/ABC12.mp4",
            "omni_preference",
            {"chosen_score": 8, "rejected_score": 4},
        ),
        ("align_anything_tv2t.json", "align_anything", "videos/kitchen_01.mp4", "align_anything", {}),
    ],
)
def test_each_format_is_recognised_and_keeps_its_values(
    media: Path, tmp_path: Path, file: str, format_: str, video: str, source: str, facts: dict[str, Any]
) -> None:
    options: dict[str, Any] = {"media": media}
    if format_ in ("verl_omni", "omni_preference"):
        options["media_prefix"] = "/data"
    index = prepare_preferences(FORMATS / file, tmp_path / "auto", **options)
    assert verify(tmp_path / "auto.index.json") == []
    (row,) = rows_of(index)
    assert (row.question, row.chosen, row.rejected) == (QUESTION, CHOSEN, REJECTED)
    assert (row.video_id, row.source, row.facts, row.turns, row.rejected_video) == (video, source, facts, (), None)
    named = prepare_preferences(FORMATS / file, tmp_path / "named", format=format_, **options)
    assert rows_of(named) == rows_of(index)
    first = 54 if format_ == "llava_hound" else 6 * NAMES.index(video.removesuffix(".mp4"))
    assert nearest(decode_frames(content_of(index, 0, "mp4"), [0, 4])) == [first, first + 4]


def test_ms_swift_in_all_its_variants(media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its rows: 1 a string, 2 messages, 3 a list, 4 frames, 5 another video alone, 6 base64, 7 two turns."""
    file = FORMATS / "ms_swift_dpo.jsonl"
    index = prepare_preferences(file, tmp_path / "out", media=media, media_prefix="/data", skip_bad=True)
    assert verify(tmp_path / "out.index.json") == []
    rows = {row.key: row for row in rows_of(index)}
    assert list(rows) == [f"ms_swift_dpo-{number:06d}" for number in (1, 3, 4, 5, 7)]
    first, third, fourth, fifth, seventh = rows.values()
    assert (first.question, first.chosen, first.rejected) == (QUESTION, CHOSEN, REJECTED)
    assert (third.chosen, third.rejected) == ("A dog jumps over a low fence.", "A cat sleeps on a sofa.")
    assert (fourth.video_id, fourth.video.frames, fourth.video.fps) == ("frames/cup", 3, 1.0)
    assert nearest(decode_frames(content_of(index, 2, "mp4"), range(3))) == [59, 60, 61]
    assert (fifth.chosen, fifth.rejected) == ("The cup falls and breaks.", "")
    assert fifth.rejected_video is not None
    assert fifth.video_id == "clips/cup.mp4"
    assert numbers(decode_frames(content_of(index, 3, "mp4"), [0])) == [24]
    assert numbers(decode_frames(content_of(index, 3, "rejected.mp4"), [0])) == [30]
    assert seventh.turns == (("First question?", "First answer."),)
    assert (seventh.question, seventh.rejected) == ("And then?", "The last answer that is not preferred.")
    output = capsys.readouterr().out
    assert "7 rows read as swift (ms-swift's format)" in output
    assert "differ in the video alone, shown by the negative GivenVideo: 1" in output
    assert "dropped: chat_template_kwargs 1, system message 1" in output
    skipped = [json.loads(line) for line in (tmp_path / "out.skipped.jsonl").read_text().splitlines()]
    assert [line["row"] for line in skipped] == [2, 6]
    assert skipped[0]["faults"][0]["why"] == "repeats row 1: the same video, question and answers"
    assert "its base64 is no video" in skipped[1]["faults"][0]["why"]


def test_what_has_no_place_is_dropped_by_name_and_count(
    media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    objects = {"ref": ["dog"], "bbox": [[0.1, 0.1, 0.5, 0.5]], "bbox_type": "norm1"}
    system = [{"role": "system", "content": "Be brief."}]
    answer = {**SWIFT["messages"][1], "loss": True}
    first = {**SWIFT, "messages": [*system, SWIFT["messages"][0], answer], "objects": objects, "channel": "web"}
    second = {**SWIFT, "videos": ["clips/cup.mp4"], "objects": objects, "tools": "[]"}
    rows = written(tmp_path, "rows.jsonl", first, second)
    read = rows_of(prepare_preferences(rows, tmp_path / "out", media=media))
    assert [row.facts for row in read] == [{"channel": "web"}, {}]
    output = capsys.readouterr().out
    assert "kept as facts: channel 1" in output
    assert "dropped: loss of messages 1, objects 2, system message 1, tools 1" in output


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.parquet"])
def test_every_container_gives_the_same_rows(media: Path, tmp_path: Path, name: str) -> None:
    swift = {
        "messages": [
            {"role": "user", "content": "Look.\n<video>\nWhat jumps?"},
            {"role": "assistant", "content": "A dog."},
        ],
        "videos": ["clips/dog.mp4"],
        "rejected_response": "A cat.",
    }
    (row,) = rows_of(prepare_preferences(written(tmp_path, name, swift), tmp_path / "out", media=media))
    assert (row.question, row.chosen, row.rejected) == ("Look.\nWhat jumps?", "A dog.", "A cat.")
    assert row.video_id == "clips/dog.mp4"


def test_trl_rows_with_a_video_part_or_column(media: Path, tmp_path: Path) -> None:
    asked = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "What jumps?"}]}]
    rows = written(tmp_path, "trl.jsonl", trl_row(), trl_row(prompt=asked, videos=["clips/cup.mp4"]))
    first, second = rows_of(prepare_preferences(rows, tmp_path / "out", media=media))
    assert (first.question, first.chosen, first.rejected) == ("What jumps?", "A dog.", "A cat.")
    assert (first.video_id, second.video_id, first.source) == ("clips/dog.mp4", "clips/cup.mp4", "trl")


def test_base64_and_bytes_are_packed_as_they_are(tmp_path: Path) -> None:
    video = numbered_video(50, count=6)
    text = base64.b64encode(video).decode()
    rows = written(tmp_path, "a.jsonl", trl_row(videos=[f"data:video/mp4;base64,{text}"]))
    assert content_of(prepare_preferences(rows, tmp_path / "a"), 0, "mp4") == video
    rows = written(tmp_path, "b.parquet", trl_row(videos=[{"bytes": video, "path": None}]))
    assert content_of(prepare_preferences(rows, tmp_path / "b"), 0, "mp4") == video


def test_llama_factory_names_columns_and_roles_in_dataset_info(media: Path, tmp_path: Path) -> None:
    row = {
        "talk": [
            {"role": "U", "content": "<video>What jumps?"},
            {"role": "A", "content": "A dog."},
            {"role": "U", "content": "How high?"},
        ],
        "good": {"role": "A", "content": "One metre."},
        "bad": {"role": "A", "content": "Two."},
        "clips": ["clips/dog.mp4"],
    }
    columns = {"messages": "talk", "chosen": "good", "rejected": "bad", "videos": "clips"}
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "U", "assistant_tag": "A"}
    info = {"mine": {"file_name": "mine.json", "ranking": True, "columns": columns, "tags": tags}}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    (read,) = rows_of(prepare_preferences(written(tmp_path, "mine.json", row), tmp_path / "out", media=media))
    assert read.turns == (("What jumps?", "A dog."),)
    assert (read.question, read.chosen, read.rejected) == ("How high?", "One metre.", "Two.")
    with pytest.raises(ValueError, match=r"describes data sets; give the file of one of them: mine\.json"):
        prepare_preferences(tmp_path / "dataset_info.json", tmp_path / "info", media=media)


def test_rows_that_prefer_neither_answer_are_left_out_and_counted(
    media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = json.loads((FORMATS / "align_anything_tv2t.json").read_text())[0]
    rows = written(tmp_path, "a.json", row, {**row, "overall_response": 0}, {**row, "overall_response": None})
    with pytest.raises(ValueError, match="row 3, row: does not fit align_anything, it has no overall_response"):
        prepare_preferences(rows, tmp_path / "a", media=media)
    rows = written(tmp_path, "b.json", row, {**row, "overall_response": 0})
    assert len(prepare_preferences(rows, tmp_path / "b", media=media)) == 1
    assert "left out, because they prefer neither answer: 1" in capsys.readouterr().out
