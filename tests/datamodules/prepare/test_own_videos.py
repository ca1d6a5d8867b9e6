"""One's own mp4 files and JSON lines to shards: bytes unchanged, facts from the video, every fault listed at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import datamodules.prepare.checked_mp4s
from datamodules.prepare.own_videos import FIELDS, prepare_jsonl
from datamodules.prepare.verify import verify
from datamodules.shards.index import Index
from datamodules.video.codec import encode_mp4, probe
from datamodules.video.facts import VideoFacts
from datamodules.vista.samples import Box, PreferenceRow
from tests.support.annotated_videos import timed_video
from tests.support.paths import ROOT

SHORT = {"question": "What rolls?", "chosen": "A red ball.", "rejected": "A blue ball."}


@pytest.fixture(scope="session")
def video() -> bytes:
    """Two seconds at 10 frames per second, 48 x 32."""
    frames = torch.arange(20, dtype=torch.uint8).mul(10)[:, None, None, None].expand(20, 3, 32, 48)
    return encode_mp4(frames.contiguous(), fps=10)


@pytest.fixture
def folder(tmp_path: Path, video: bytes) -> Path:
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "roll.mp4").write_bytes(video)
    (tmp_path / "other.MP4").write_bytes(video)
    return tmp_path


def write(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "mine.jsonl"
    path.write_text("".join(json.dumps({"video": "clips/roll.mp4", **SHORT, **row}) + "\n" for row in rows))
    return path


def member(index: Index, position: int, suffix: str) -> bytes:
    entry = index.entries[position]
    member = entry.members[suffix]
    return Path(index.shards[entry.shard].address).read_bytes()[member.offset : member.offset + member.size]


def message_of(rows: Path, **options: Any) -> str:
    with pytest.raises(ValueError, match="nothing was written") as caught:
        prepare_jsonl(rows, rows.parent / "out", **options)
    assert not list(rows.parent.glob("out*"))
    return str(caught.value)


def test_a_full_row_keeps_its_video_unchanged_and_its_annotation(folder: Path, video: bytes) -> None:
    boxes = [{"time": 0.5, "x": 1, "y": 2.5, "width": 10, "height": 8}, {"x": 0, "y": 0, "width": 48, "height": 32}]
    rows = write(
        folder,
        {"irrelevant": "It rains.", "event": [0.5, 1.25], "boxes": boxes, "source": "mine/balls"},
        {"question": "Which?", "event": None},
    )
    index = prepare_jsonl(rows, folder / "out")
    assert verify(folder / "out.index.json") == []
    assert member(index, 0, "mp4") == video
    first, second = (PreferenceRow.from_json(json.loads(member(index, number, "json"))) for number in (0, 1))
    assert first == PreferenceRow(
        key="mine-000001",
        video_id="clips/roll.mp4",
        question="What rolls?",
        chosen="A red ball.",
        rejected="A blue ball.",
        irrelevant="It rains.",
        event=(0.5, 1.25),
        boxes=(Box(1, 2.5, 10, 8, 0.5), Box(0, 0, 48, 32)),
        video=VideoFacts(20, 10.0, 48, 32),
        source="mine/balls",
    )
    assert (second.irrelevant, second.event, second.boxes, second.clip, second.source) == (None, None, (), None, "")


def test_facts_are_kept_and_are_an_object(folder: Path) -> None:
    index = prepare_jsonl(write(folder, {"facts": {"boxes_confidence": [0.5], "by": "rule"}}), folder / "out")
    assert json.loads(member(index, 0, "json"))["facts"] == {"boxes_confidence": [0.5], "by": "rule"}
    for path in folder.glob("out*"):
        path.unlink()
    assert "facts: is not an object of names and values but 3" in message_of(write(folder, {"facts": 3}))


def test_videos_are_found_from_the_rows_folder_from_another_or_anywhere(folder: Path, tmp_path: Path) -> None:
    rows = write(folder, {"video": "./clips/../clips/roll.mp4"}, {"video": str(folder / "other.MP4")})
    ids = [entry.facts["video_id"] for entry in prepare_jsonl(rows, folder / "a").entries]
    assert ids == ["clips/roll.mp4", "other.MP4"]
    rows = write(folder, {"video": "roll.mp4"}, {"video": "../other.MP4"})
    ids = [entry.facts["video_id"] for entry in prepare_jsonl(rows, folder / "b", videos=folder / "clips").entries]
    assert ids == ["roll.mp4", "../other.MP4"]
    with pytest.raises(ValueError, match="no such folder"):
        prepare_jsonl(rows, folder / "c", videos=folder / "none")


def test_one_question_may_have_several_answers_but_no_row_comes_twice(folder: Path) -> None:
    message = message_of(write(folder, {}, {"rejected": "A green ball."}, {"irrelevant": "It rains."}))
    assert "1 of 3 rows" in message
    assert "row 3, rejected: repeats row 1: the same video and question and chosen and rejected" in message


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"video": "none.mp4"}, "video: there is no file"),
        ({"video": ""}, "video: is empty"),
        ({"video": None}, "video: is missing"),
        ({"video": "mine.jsonl"}, "video: mine.jsonl is not an mp4; `ffmpeg"),
        ({"video": "broken.mp4"}, "video: undecodable video"),
        ({"question": " "}, "question: is empty"),
        ({"video": "uneven.mp4"}, "video: has no constant frame rate: frame 2 is shown at 0.10 s"),
        ({"question": "<video> What?"}, "question: has a <video> token"),
        ({"chosen": "<video> A ball."}, "chosen: has a <video> token"),
        ({"irrelevant": "Rain in <video>."}, "irrelevant: has a <video> token"),
        ({"rejected": "A red ball. "}, "rejected: is the same text as the chosen answer"),
        ({"irrelevant": "A red ball."}, "irrelevant: is the same text as the chosen answer"),
        ({"rejected": ["a"]}, 'rejected: is not text but ["a"]'),
        ({"irrelevant": ""}, "irrelevant: is empty; give the text, or leave the field out"),
        ({"irelevant": "It rains."}, "irelevant: is no field of this format; there are video, question"),
        ({"event": [1.5, 2.5]}, "event: [1.5, 2.5] s is not a span inside the video of 2 s"),
        ({"event": [1, 1]}, "event: [1, 1] s is not a span"),
        ({"event": 1.5}, "event: is not [start, end] in seconds but 1.5"),
        ({"event": ["0", "1"]}, 'event: is not [start, end] in seconds but ["0", "1"]'),
        ({"event": [0, float("inf")]}, "event: is not [start, end] in seconds but [0, Infinity]"),
        ({"boxes": {"x": 1}}, "boxes: is not a list of objects"),
        ({"boxes": [[1, 2, 3, 4]]}, "boxes[0]: is not numbers x, y, width, height"),
        ({"boxes": [{"x": 1, "y": 2, "width": 3}]}, "boxes[0]: is not numbers"),
        ({"boxes": [{"x": 1, "y": 2, "width": 3, "height": 4, "t": 1}]}, "boxes[0]: is not numbers"),
        ({"boxes": [{"x": 1, "y": 2, "width": 3, "height": float("nan")}]}, "boxes[0]: is not numbers"),
        ({"boxes": [{"x": 1, "y": 2, "width": 3, "height": True}]}, "boxes[0]: is not numbers"),
        ({"boxes": [{"x": 1, "y": 2, "width": 0, "height": 4}]}, "boxes[0]: has no area (0 x 4)"),
        ({"boxes": [{"x": 40, "y": 2, "width": 20, "height": 4}]}, "boxes[0]: (40, 2) to (60, 6) is outside the frame"),
        ({"boxes": [{"x": 48.2, "y": 2, "width": 0.5, "height": 4}]}, "boxes[0]: (48.2, 2) to (48.7, 6) is outside"),
        ({"boxes": [{"x": 1, "y": -0.9, "width": 3, "height": 0.5}]}, "boxes[0]: (1, -0.9) to (4, -0.4) is outside"),
        ({"boxes": [{"x": 1, "y": 2, "width": 3, "height": 4, "time": 2.5}]}, "boxes[0]: time 2.5 s is outside"),
    ],
)
def test_each_fault_names_row_and_field(folder: Path, row: dict[str, Any], expected: str) -> None:
    (folder / "broken.mp4").write_bytes(b"not a video")
    (folder / "uneven.mp4").write_bytes(timed_video([0, 50, 100, 1000, 2000, 3000]))
    message = message_of(write(folder, {}, {"rejected": "A green ball.", **row}))
    assert f"  row 2, {expected}" in message
    assert message.count("  row ") == 1


def test_a_video_is_looked_into_once_even_a_bad_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "broken.mp4").write_bytes(b"not a video")
    looked: list[str] = []

    def counted(path: Path, **options: bool) -> VideoFacts:
        looked.append(path.name)
        return probe(path, **options)

    monkeypatch.setattr(datamodules.prepare.checked_mp4s, "probe", counted)
    broken = [{"video": "broken.mp4", "question": f"What is {number}?"} for number in range(3)]
    assert "3 of 5 rows are bad" in message_of(write(folder, {}, {"question": "Which?"}, *broken))
    assert looked == ["roll.mp4", "broken.mp4"]


def test_names_of_files_that_no_key_can_hold_stay_apart(folder: Path) -> None:
    keys = []
    for name in ("数据", "视频", "data set", "data-set"):
        rows = write(folder, {}).rename(folder / f"{name}.jsonl")
        keys.append(prepare_jsonl(rows, folder / f"out-{name}").entries[0].key)
    assert len(set(keys)) == 4
    assert all(key.isascii() and key.endswith("-000001") for key in keys)


def test_faults_keep_the_numbers_of_their_boxes(folder: Path) -> None:
    good, empty = {"x": 1, "y": 2, "width": 3, "height": 4}, {"x": 1, "y": 2, "width": 0, "height": 4}
    message = message_of(write(folder, {"boxes": [good, "no box", empty, empty]}))
    assert "faults by field: boxes[1] 1, boxes[2] 1, boxes[3] 1" in message


def test_skip_bad_writes_the_rest_and_a_list_that_can_be_mended(folder: Path) -> None:
    rows = write(folder, {}, {"event": [3, 4], "chosen": ""}, {"question": "Which colour?"})
    index = prepare_jsonl(rows, folder / "out", skip_bad=True)
    assert [entry.key for entry in index.entries] == ["mine-000001", "mine-000003"]
    (skipped,) = [json.loads(line) for line in (folder / "out.skipped.jsonl").read_text().splitlines()]
    assert skipped["row"] == 2
    assert [fault["field"] for fault in skipped["faults"]] == ["chosen", "event"]
    assert skipped["content"] == json.loads(rows.read_text().splitlines()[1])


def test_the_documented_rows_are_good_and_show_every_field(folder: Path) -> None:
    text = (ROOT / "docs" / "data.md").read_text().split("## Your own videos")[1]
    shown = [json.loads(line) for line in text.split("```json\n")[1].split("```")[0].splitlines()]
    assert set(shown[0]) == set(FIELDS)
    frames = torch.zeros(50, 3, 240, 320, dtype=torch.uint8)
    (folder / shown[0]["video"]).write_bytes(encode_mp4(frames, fps=10))
    assert len(prepare_jsonl(write(folder, *shown), folder / "out")) == 2


def test_good_rows_leave_no_list_of_skipped_ones_and_equal_input_gives_equal_shards(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write(folder, {}, {"question": "Which colour?"})
    first = prepare_jsonl(rows, folder / "a", skip_bad=True)
    second = prepare_jsonl(rows, folder / "b")
    assert first.fingerprint == second.fingerprint
    assert not list(folder.glob("*.skipped.jsonl"))
    output = capsys.readouterr()
    assert output.out.splitlines()[0] == f"2 samples in 1 shards: {folder / 'a'}.index.json"
    assert output.err == ""
