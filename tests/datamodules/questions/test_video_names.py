"""What benchmarks call their videos, in each published layout, and how a user may call them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.questions.overlap import plain_id
from datamodules.questions.video_names import benchmark_names

#: File's name, content, and what a user's videos are called that the benchmark holds.
LAYOUTS: dict[str, tuple[str, Any, str]] = {
    "VideoHallucer": (
        "interaction.json",
        [{"basic": {"video": "v_uOk4EFDsDP4.mp4", "question": "?"}, "hallucination": {"video": "v_uOk4EFDsDP4.mp4"}}],
        "clips/uOk4EFDsDP4.webm",
    ),
    "EventHallusion": (
        "entire_questions.json",
        [{"id": "entire_001", "event_info": {"caption": "."}, "questions": [{"question": "?", "answer": "No."}]}],
        "entire_001.mp4",
    ),
    "ActivityNet-QA": (
        "test_q.json",
        [{"video_name": "TIEzvhv6xaI", "question": "who", "question_id": "v_TIEzvhv6xaI_2"}],
        "v_TIEzvhv6xaI.mp4",
    ),
    "MSRVTT-QA": (
        "test_qa.json",
        [{"answer": "man", "category_id": 14, "id": 158581, "question": "who", "video_id": 7010}],
        "video7010.mp4",
    ),
    "MSVD-QA": ("test_qa.json", [{"answer": "someone", "id": 5, "question": "who", "video_id": 1301}], "vid1301.avi"),
    "MVBench": ("action_antonym.json", [{"video": "166583.webm", "question": "?", "candidates": []}], "166583.webm"),
    "Video-ChatGPT": ("generic_qa.json", [{"Q": "?", "A": ".", "video_name": "v_p1QGn0IzfW0"}], "v_p1QGn0IzfW0.mp4"),
    "TGIF-QA": (
        "Test_frameqa_question.csv",
        'gif_name\tquestion\tanswer\ntumblr_nk1n\twhat does the "man do ?\trun\n',
        "tumblr_nk1n.gif",
    ),
    "a table": ("val.csv", 'video,question\n"a, b.mp4","first\nsecond"\n', "a, b.mp4"),
}


def written(folder: Path, name: str, content: Any) -> Path:
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder / name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_video_is_found_by_its_published_name(layout: str, tmp_path: Path) -> None:
    name, content, video = LAYOUTS[layout]
    names = benchmark_names([written(tmp_path, name, content)])
    assert {plain_id(name_of_video) for name_of_video in names} == {plain_id(video)}
    assert benchmark_names([tmp_path]) == names, "a folder of annotations serves too"


def test_numbers_of_one_data_set_are_no_names_of_the_other(tmp_path: Path) -> None:
    """MSVD-QA's test videos have the numbers of MSRVTT's for training."""
    assert benchmark_names([written(tmp_path, "msvd.json", LAYOUTS["MSVD-QA"][1])]) == {"vid1301"}
    assert benchmark_names([written(tmp_path, "msrvtt.json", LAYOUTS["MSRVTT-QA"][1])]) == {"video7010"}


def test_a_mapping_adds_the_clips_names(tmp_path: Path) -> None:
    questions = written(tmp_path, "test_qa.json", LAYOUTS["MSVD-QA"][1])
    mapping = written(tmp_path, "youtube_mapping.txt", "-4wsuPCjDBc_5_15 vid1\nJs_2jaTbsJ0_4_9 vid1301\n")
    assert benchmark_names([questions], mapping) == {"vid1301", "Js_2jaTbsJ0_4_9"}
    written(tmp_path, "youtube_mapping.txt", "-4wsuPCjDBc_5_15 vid1\n")
    with pytest.raises(ValueError, match=r"knows none of the videos, such as vid1301"):
        benchmark_names([questions], mapping)
    with pytest.raises(ValueError, match="does not exist"):
        benchmark_names([questions], tmp_path / "none.txt")


def test_files_that_name_no_video_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no video is named in .*a\.json; looked for the fields video, video_name"):
        benchmark_names([written(tmp_path, "a.json", [{"question_id": "v_1", "answer": "yes"}])])
    with pytest.raises(ValueError, match=r"bad\.json: cannot be read as annotations"):
        benchmark_names([written(tmp_path, "bad.json", "{")])
    (tmp_path / "latin.csv").write_bytes(b"video\n\xe9.mp4\n")
    with pytest.raises(ValueError, match=r"latin\.csv: cannot be read as annotations"):
        benchmark_names([tmp_path / "latin.csv"])
