"""Open-ended questions in every published format, their faults, and where their videos are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.questions.open_qa import OpenQuestions
from datamodules.questions.open_qa_files import OpenRecord, read_open_file

MSVD = [
    {"answer": "cat", "id": 7, "question": "what runs?", "video_id": 1301},
    {"answer": "man", "id": 9, "question": "who sings?", "video_id": 1302},
]
TGIF = "gif_name\tquestion\tanswer\ttype\tvid_id\tkey\tdescription\n"


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"\0")


def found(data: OpenQuestions) -> dict[str, str]:
    """Key -> file of each question's video."""
    data.setup("test")
    return {item.key: item.path.name for item in data._asked if item.path is not None}


def test_msrvtt_and_msvd_name_videos_by_number(tmp_path: Path) -> None:
    file = write(tmp_path / "test_qa.json", MSVD)
    touch(tmp_path / "v", "video1301.mp4", "video1302.webm", "vid1301.avi", "vid1302.avi")
    asks = OpenQuestions("msrvtt_qa", str(file), str(tmp_path / "v"))
    assert found(asks) == {"msrvtt_qa/7": "video1301.mp4", "msrvtt_qa/9": "video1302.webm"}
    assert found(OpenQuestions("msvd_qa", str(file), str(tmp_path / "v")))["msvd_qa/7"] == "vid1301.avi"
    assert asks.everything["msrvtt_qa/7"].prompt == "what runs?"
    assert asks.everything["msrvtt_qa/7"].answer == "cat"
    assert asks.sources()["msrvtt_qa"]["questions"] == 2


def test_msvds_clips_are_found_through_its_mapping(tmp_path: Path) -> None:
    file = write(tmp_path / "test_qa.json", MSVD)
    mapping = write(tmp_path / "youtube_mapping.txt", "-4wsuPCjDBc_5_15 vid1301\nx.y_1_2 vid1302\n")
    touch(tmp_path / "v", "-4wsuPCjDBc_5_15.avi", "x.y_1_2.avi", "x.avi")
    asks = OpenQuestions("msvd_qa", str(file), str(tmp_path / "v"), mapping=str(mapping))
    assert found(asks) == {"msvd_qa/7": "-4wsuPCjDBc_5_15.avi", "msvd_qa/9": "x.y_1_2.avi"}
    write(mapping, "a vid1301\n")
    with pytest.raises(ValueError, match=r"vid1302 is not in data\.mapping"):
        asks.setup("test")
    write(mapping, "a\n")
    with pytest.raises(ValueError, match="'a' is not CLIP vidN"):
        asks.setup("test")


def test_tgif_is_a_table_with_tabs(tmp_path: Path) -> None:
    rows = 'tumblr_a\twhat is "it"?\tcat\t0\t1\t5\tA cat, "runs".\ntumblr_b\thow many?\ttwo\t1\t2\t6\tTwo.\n'
    file = write(tmp_path / "Test_frameqa_question.csv", TGIF + rows)
    touch(tmp_path / "v", "tumblr_a.gif", "tumblr_b.mp4")
    asks = OpenQuestions("tgif_qa", str(file), str(tmp_path / "v"))
    assert found(asks) == {"tgif_qa/000000": "tumblr_a.gif", "tgif_qa/000001": "tumblr_b.mp4"}
    assert asks.records["tgif_qa/000000"] == OpenRecord("000000", "tumblr_a", 'what is "it"?', "cat", 0)
    write(file, TGIF + "a\t\tcat\t0\t1\t1\tx\nb\twhat?\tcat\tobject\t1\t1\tx\n")
    with pytest.raises(ValueError, match=r"row 0: has no question[\s\S]*row 1: has the type 'object'"):
        asks.setup("test")
    write(file, "gif,question,answer\n")
    with pytest.raises(ValueError, match="has no columns gif_name, question, answer"):
        asks.setup("test")
    write(file, TGIF)
    with pytest.raises(ValueError, match="no question in it"):
        asks.setup("test")


def pair(tmp_path: Path, asked: list[Any], answers: list[Any]) -> dict[str, Any]:
    return {
        "questions": write(tmp_path / "test_q.json", asked),
        "answers": write(tmp_path / "test_a.json", answers),
        "mapping": None,
        "prefix": "v_",
        "num_types": 9,
    }


def q(name: str) -> dict[str, str]:
    return {"video_name": "abc", "question": "is it red", "question_id": name}


def a(name: str, **more: Any) -> dict[str, Any]:
    return {"answer": "yes", "question_id": name, "type": 3} | more


def test_questions_and_answers_are_joined_by_their_id(tmp_path: Path) -> None:
    file = read_open_file(**pair(tmp_path, [q("v_1"), q("v_2")], [a("v_2", answer="no"), a("v_1")]))
    assert [item.answer for item in file.records] == ["yes", "no"]
    assert file.records[0] == OpenRecord("v_1", "abc", "is it red", "yes", 3)
    # The hash tells other answers, too.
    other = read_open_file(**pair(tmp_path, [q("v_1"), q("v_2")], [a("v_2"), a("v_1")]))
    assert other.sha256 != file.sha256


@pytest.mark.parametrize(
    ("asked", "answers", "faults"),
    [
        ([q("1"), q("2"), q("3")], [a("2")], ["2 faults", "1 has no answer", "3 has no answer"]),
        ([q("1")], [a("1"), a("9")], ["9 is answered, but not asked"]),
        ([q("1")], [a("1"), a("1")], ["1 occurs 2 times"]),
        ([q("1"), q("1")], [a("1")], ["1 occurs 2 times"]),
        ([q("1")], [a("1", type="x")], ["1 has the type 'x'"]),
        ([q("1")], [a("1", type=9)], ["1 has the type 9"]),
        ([q("1"), {"question": "?"}], [a("1")], ["row 1: has no video_name", "row 1: has no question_id"]),
        ([q("1")], [a("1", answer="")], ["row 0: has no answer"]),
        (["x"], [a("1")], ["row 0: is no JSON object"]),
    ],
)
def test_faults_of_two_files_are_listed(
    tmp_path: Path, asked: list[Any], answers: list[Any], faults: list[str]
) -> None:
    with pytest.raises(ValueError, match="faults") as error:
        read_open_file(**pair(tmp_path, asked, answers))
    for fault in faults:
        assert fault in str(error.value)


def test_types_are_checked_and_ignored_where_a_test_set_has_none(tmp_path: Path) -> None:
    files = pair(tmp_path, [q("v_1")], [a("v_1", type="what")])
    assert read_open_file(**files | {"num_types": 0}).records[0].kind is None
    table = write(tmp_path / "t.csv", TGIF + "a\tis it?\tcat\t4\t1\t5\tA cat.\n")
    with pytest.raises(ValueError, match="row 0: has the type 4, not a number from 0 to 3"):
        OpenQuestions("tgif_qa", str(table), None).setup("test")
    asks = OpenQuestions("msvd_qa", str(table), None)
    asks.setup("test")
    assert asks.records["msvd_qa/000000"].kind is None


def test_questions_without_answers_ask_for_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "test_q.json", [q("1")])
    with pytest.raises(ValueError, match=r"give data\.answers"):
        read_open_file(file, None, None, "v_")
    with pytest.raises(ValueError, match=r"nothing\.json does not exist"):
        read_open_file(tmp_path / "nothing.json", None, None, "v_")
    for content, message in (("{", "is not JSON"), ("[]", "at least one")):
        with pytest.raises(ValueError, match=message):
            read_open_file(write(file, content), None, None, "v_")


def test_faults_of_one_file_are_listed(tmp_path: Path) -> None:
    file = write(tmp_path / "test_qa.json", [*MSVD, {"question": "what?", "answer": "x", "id": "a"}])
    with pytest.raises(ValueError, match=r"row 2: has no video_id[\s\S]*row 2: has no id"):
        read_open_file(file, None, None, "vid")
    with pytest.raises(ValueError, match="7 occurs 2 times"):
        read_open_file(write(file, [MSVD[0], MSVD[0]]), None, None, "vid")


def test_another_version_is_told_by_its_length(tmp_path: Path) -> None:
    file = write(tmp_path / "test_qa.json", MSVD)
    with pytest.raises(ValueError, match="holds 2 questions, 13157 were asked for"):
        OpenQuestions("msvd_qa", str(file), None, num_questions=13157).setup("test")


def test_a_prompt_needs_a_place_for_the_question(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="lacks"):
        OpenQuestions("msvd_qa", "q.json", None, prompt="What?")
    asks = OpenQuestions("msvd_qa", "q.json", None, prompt="{question} Answer shortly.")
    assert asks.asked_as("what {is} it?") == "what {is} it? Answer shortly."
