"""Preference data of other suites: what is refused, and how it is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from datamodules.prepare.own_videos import prepare_jsonl
from datamodules.prepare.preferences import prepare_preferences
from tests.support.preference_files import FORMATS, SWIFT, trl_row, write_media, written


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_media(tmp_path_factory.mktemp("media"))


@pytest.mark.parametrize("file", ["trl_vision.parquet", "trl_vision_row.json", "rlaif_v_row.json"])
def test_rows_of_pictures_are_refused(media: Path, tmp_path: Path, file: str) -> None:
    with pytest.raises(ValueError, match="rows that only have pictures or sounds are not read"):
        prepare_preferences(FORMATS / file, tmp_path / "out", media=media, skip_bad=True)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (trl_row(), "row: does not fit swift, it has no messages, no rejected_response or"),
        (trl_row(), "the nearest format is trl (its fields: prompt, chosen, rejected)"),
        ({**SWIFT, "rejected_response": None}, "it has no rejected_response or rejected_messages or rejected_videos"),
        ({**SWIFT, "rejected_response": " A dog. "}, "rejected: is the same text as the chosen answer"),
        ({**SWIFT, "videos": ["clips/dog.mp4", "clips/cup.mp4"]}, "videos: has 2 videos; a row has one"),
        ({**SWIFT, "videos": []}, "videos: is missing"),
        ({**SWIFT, "videos": "clips/none.mp4"}, "video: there is no file"),
        ({**SWIFT, "videos": "https://a.b/c.mp4"}, "video: https://a.b/c.mp4 is an address; download the video"),
        ({**SWIFT, "videos": "frames/cup/0001.jpg"}, "video: 0001.jpg is a picture, not a video"),
        ({**SWIFT, "videos": "clips/other"}, "video: there is neither a folder of frames"),
        ({**SWIFT, "rejected_videos": ["clips/none.mp4"]}, "rejected_video: there is no file"),
        ({**SWIFT, "images": ["a.jpg"]}, "images: comes beside the video"),
        ({**SWIFT, "messages": SWIFT["messages"][:1]}, "messages: end with the question"),
        ({**SWIFT, "messages": SWIFT["messages"][1:]}, "messages: message 1 is of 'assistant', where one of 'user'"),
        (
            {**SWIFT, "messages": [{"role": "user", "content": "<video><video>?"}, SWIFT["messages"][1]]},
            "messages: has 2 <video> tokens; a row has one video",
        ),
        (
            {**SWIFT, "rejected_messages": [{"role": "user", "content": "Who?"}, SWIFT["messages"][1]]},
            "rejected_messages: asks something else than the chosen side",
        ),
    ],
)
def test_a_bad_row_is_named_with_what_is_wrong(media: Path, tmp_path: Path, row: dict[str, Any], expected: str) -> None:
    rows = written(tmp_path, "rows.jsonl", {**SWIFT, "rejected_response": "A horse."}, row)
    with pytest.raises(ValueError, match="nothing was written") as caught:
        prepare_preferences(rows, tmp_path / "out", format="swift", media=media)
    assert "row 2, " in str(caught.value)
    assert expected in str(caught.value)
    assert not list(tmp_path.glob("out*"))


def test_all_faults_of_a_row_are_listed(media: Path, tmp_path: Path) -> None:
    row = {**SWIFT, "videos": "clips/none.mp4", "rejected_videos": "clips/no.mp4", "rejected_response": ""}
    other = {**SWIFT, "videos": "clips/none.mp4", "rejected_response": "A dog."}
    with pytest.raises(ValueError, match="2 of 3 rows are bad") as caught:
        prepare_preferences(written(tmp_path, "rows.jsonl", SWIFT, row, other), tmp_path / "out", media=media)
    fields = [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:-2]]
    assert fields == ["row 2, video", "row 2, rejected_video", "row 3, video", "row 3, rejected"]


def test_faults_are_cut_at_ten_with_a_count(media: Path, tmp_path: Path) -> None:
    rows = written(tmp_path, "rows.jsonl", SWIFT, *({**SWIFT, "videos": f"clips/{n}.mp4"} for n in range(13)))
    with pytest.raises(ValueError, match="13 of 14 rows are bad") as caught:
        prepare_preferences(rows, tmp_path / "out", media=media)
    lines = str(caught.value).splitlines()
    assert len([line for line in lines if "there is no file" in line]) == 10
    assert lines[11] == "  and 3 more"


def test_a_file_of_no_format_names_the_nearest(tmp_path: Path) -> None:
    rows = written(tmp_path, "rows.json", {"query": "What?", "chosen": "A.", "video": "a.mp4", "rejected": "B."})
    with pytest.raises(ValueError, match="row 1, row: does not fit any format; the nearest format is") as caught:
        prepare_preferences(rows, tmp_path / "out")
    assert "the formats are omni_preference, swift" in str(caught.value)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("ms_swift_dpo.jsonl", "this looks like ms-swift's format"),
        ("qwen_vl_finetune_dpo.json", "this looks like Qwen-VL-Series-Finetune's format"),
        ("verl_omni.parquet", "this looks like verl-omni's format"),
        ("longvpo.jsonl", "this looks like LongVPO's format"),
    ],
)
def test_prepare_jsonl_says_which_format_it_is_given(tmp_path: Path, file: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected) as caught:
        prepare_jsonl(FORMATS / file, tmp_path / "out")
    assert f"use `vidpref prepare preferences {FORMATS / file} {tmp_path / 'out'}`" in str(caught.value)


def test_prepare_jsonl_says_that_a_list_is_not_json_lines(tmp_path: Path) -> None:
    row = {"video": "a.mp4", "question": "What?", "chosen": "A.", "rejected": "B.", "irrelevant": "C."}
    with pytest.raises(ValueError, match="its rows are not JSON lines; write one JSON object a line"):
        prepare_jsonl(written(tmp_path, "rows.json", row), tmp_path / "out")
