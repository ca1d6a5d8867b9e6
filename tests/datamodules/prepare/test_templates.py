"""Leftovers of chat templates around texts: warned of and counted, removed where asked to; blank and equal texts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from datamodules.prepare.own_videos import prepare_jsonl
from datamodules.prepare.templates import without_template
from datamodules.shards.byte_reader import ByteReader
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.video.codec import encode_mp4
from tests.support.annotated_videos import numbered_frames
from tests.support.paths import DATA

CASES = DATA / "cases/texts/special_tokens.jsonl"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<image>\nWhat is this?", "What is this?"),
        ("<video>\n<image>What is this?", "What is this?"),
        ("What is this?\n<image>", "What is this?"),
        ("USER: what is this? ASSISTANT:", "what is this?"),
        ("Human: why? ", "why?"),
        ("### Human: why?\n### Assistant:", "why?"),
        ("<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\n", "What?"),
        ("<s>[INST] What? [/INST]", "What?"),
        ("<|start_header_id|>user<|end_header_id|>\n\nWhat?<|eot_id|>", "What?"),
        ("<start_of_turn>user\nWhat?<end_of_turn>", "What?"),
        ("ASSISTANT: A square.</s>", "A square."),
        ("<image>", ""),
    ],
)
def test_a_template_around_a_text_is_taken_off(text: str, left: str) -> None:
    assert without_template(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "What is this?",
        " spaces stay ",
        "Who is the assistant:",
        "The user: who is it?",
        "What </s> is this?",
        "Is there an <image> in it?",
        "<b>bold</b>",
        "a superuser:",
        "",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert without_template(text) == text


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """The cases, each with the video that they name."""
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/ok.mp4").write_bytes(encode_mp4(numbered_frames(count=4), fps=4))
    (tmp_path / "texts").mkdir()
    return Path(shutil.copy(CASES, tmp_path / "texts/cases.jsonl"))


def written(index: Index) -> list[dict[str, str]]:
    reader = SampleReader(index, ByteReader())
    return [json.loads(reader.read(position, ["json"])["json"]) for position in range(len(index))]


def test_blank_and_equal_answers_are_faults_and_templates_are_warned_of(
    rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = prepare_jsonl(rows, rows.parent / "out", skip_bad=True)
    assert [entry.key for entry in index.entries] == [f"cases-{number:06d}" for number in range(1, 7)]
    bad = [json.loads(line) for line in (rows.parent / "out.skipped.jsonl").read_text().splitlines()]
    assert [(line["row"], line["faults"][0]["field"]) for line in bad] == [(7, "chosen"), (8, "irrelevant")]
    assert bad[0]["faults"][0]["why"].startswith("is empty")
    assert bad[1]["faults"][0]["why"].startswith("is the same text as the rejected answer")
    assert [row["question"] for row in written(index)][2:5] == [
        "<image>\nWhat is this?",
        "What </s> is this?",
        "USER: what is this? ASSISTANT:",
    ]
    message = capsys.readouterr().err
    # The questions of rows 3 and 5, and an answer's end in rows 1 and 6.
    assert "4 texts have what looks like a chat template around it" in message
    assert "row 3, question: '<image>\\nWhat is this?'" in message
    assert "--strip_templates" in message


def test_templates_are_removed_where_asked_to(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = prepare_jsonl(rows, rows.parent / "out", skip_bad=True, strip_templates=True)
    texts = written(index)
    assert [row["question"] for row in texts][2:5] == ["What is this?", "What </s> is this?", "what is this?"]
    assert [row["chosen"] for row in texts][:2] == ["A red square.", "A red square.</s> And more."]
    assert "it is removed" in capsys.readouterr().err


def test_the_flag_of_the_command_removes_them(rows: Path) -> None:
    import vidpref

    out = rows.parent / "out"
    assert vidpref.main(["prepare", "jsonl", str(rows), str(out), "--skip-bad", "--strip_templates"]) == 0
    assert written(Index.read(f"{out}.index.json"))[4]["question"] == "what is this?"


def test_nothing_is_said_of_plain_texts(rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = {"video": "../videos/ok.mp4", "question": "What?", "chosen": "A.", "rejected": "B."}
    rows.write_text(json.dumps(plain) + "\n")
    for strip in (False, True):
        prepare_jsonl(rows, rows.parent / f"out{strip}", strip_templates=strip)
    assert capsys.readouterr().err == ""


def test_rows_that_are_the_same_without_their_templates_repeat(rows: Path) -> None:
    plain = {"video": "../videos/ok.mp4", "question": "What?", "chosen": "A.", "rejected": "B."}
    rows.write_text("".join(json.dumps(plain | {"question": text}) + "\n" for text in ("What?", "USER: What?")))
    assert len(prepare_jsonl(rows, rows.parent / "kept")) == 2
    with pytest.raises(ValueError, match="row 2, rejected: repeats row 1"):
        prepare_jsonl(rows, rows.parent / "stripped", strip_templates=True)


def test_a_text_that_is_all_template_is_empty(rows: Path) -> None:
    plain = {"video": "../videos/ok.mp4", "question": "<image>", "chosen": "A.", "rejected": "B."}
    rows.write_text(json.dumps(plain) + "\n")
    with pytest.raises(ValueError, match="row 1, question: is empty"):
        prepare_jsonl(rows, rows.parent / "out", strip_templates=True)


@pytest.mark.parametrize("blank", ["\u200b", " \ufeff", "\u2060\u00ad"])
def test_texts_without_a_visible_letter_are_empty(rows: Path, blank: str) -> None:
    for name in ("question", "chosen", "rejected", "irrelevant"):
        row = {"video": "../videos/ok.mp4", "question": "What?", "chosen": "A.", "rejected": "B.", name: blank}
        rows.write_text(json.dumps(row) + "\n")
        with pytest.raises(ValueError, match=f"row 1, {name}: is empty"):
            prepare_jsonl(rows, rows.parent / "out")
    row = {"video": "../videos/ok.mp4", "question": "What?", "chosen": f"A.{blank}", "rejected": "A."}
    rows.write_text(json.dumps(row) + "\n")
    with pytest.raises(ValueError, match="rejected: is the same text as the chosen answer"):
        prepare_jsonl(rows, rows.parent / "out")
