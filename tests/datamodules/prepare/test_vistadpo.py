"""VistaDPO's released layout to shards: content, order of frames, and every fault listed at once."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from datamodules.prepare.verify import verify
from datamodules.prepare.vistadpo import pictures, prepare_vistadpo
from datamodules.shards.index import Index
from datamodules.video.codec import decode_frames, decode_image
from datamodules.video.facts import VideoFacts
from datamodules.vista.samples import Box, PreferenceRow

WIDTH, HEIGHT = 32, 24
FOLDERS = {"video": 12, "clip_w": 4, "clip_l": 3, "frame": 2}
Rows = list[dict[str, Any]]


def write_pictures(folder: Path, number: int, suffix: str = ".png", size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """Frames frame1 ... frameN, each of one grey value that tells its place: 20 * place."""
    folder.mkdir(parents=True, exist_ok=True)
    for place in range(number):
        picture = np.full((size[1], size[0], 3), 20 * place, np.uint8)
        cv2.imwrite(str(folder / f"frame{place + 1}{suffix}"), picture)


def row(name: str, **changes: Any) -> dict[str, Any]:
    fields = {
        "id": f"star/{name}",
        "video": f"star/{name}",
        "prompt": f"What is in {name}?",
        "chosen": "A red ball.",
        "rejected": "A blue ball.",
        "rejected_2": "It is raining.",
        "bbox": "'x': 5.0, 'y': 6.5, 'w': 10.0, 'h': 8.299999999999999",
        "clip_w": f"clip/clip_w/star/{name}",
        "clip_l": f"clip/clip_l/star/{name}",
        "frame": f"frame/star/{name}",
    }
    return {key: value for key, value in {**fields, **changes}.items() if value is not None}


@pytest.fixture(scope="session")
def one_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    for name, number in FOLDERS.items():
        write_pictures(folder / name, number, ".jpg" if name == "frame" else ".png")
    return folder


@pytest.fixture
def videos(tmp_path: Path, one_video: Path) -> Path:
    """The directories of frames of videos a, b, c, d."""
    for name in "abcd":
        for kind, folder in (("video", ""), ("clip_w", "clip/clip_w"), ("clip_l", "clip/clip_l"), ("frame", "frame")):
            shutil.copytree(one_video / kind, tmp_path / "videos" / folder / "star" / name)
    return tmp_path / "videos"


def write(folder: Path, rows: Rows, name: str = "object_set.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def members(index: Index, position: int) -> dict[str, bytes]:
    entry = index.entries[position]
    shard = Path(index.shards[entry.shard].address).read_bytes()
    return {suffix: shard[member.offset : member.offset + member.size] for suffix, member in entry.members.items()}


def grey(video: bytes, number: int) -> list[int]:
    """The mean grey value of every frame, as the place that wrote it."""
    means = decode_frames(video, range(number)).float().mean((1, 2, 3))
    return [round(mean / 20) for mean in means.tolist()]


def message_of(rows: Path, videos: Path, output: Path, **options: Any) -> str:
    with pytest.raises(ValueError, match="rows are bad, nothing was written") as caught:
        prepare_vistadpo(rows, videos, output, **options)
    return str(caught.value)


def test_a_row_becomes_its_videos_its_key_frame_and_its_texts(tmp_path: Path, videos: Path) -> None:
    rows = write(tmp_path, [row("a", prompt="<video>\nWhat is it?"), row("b", rejected_2=None)])
    index = prepare_vistadpo(rows, videos, tmp_path / "out" / "vista", fps=4)
    assert [entry.key for entry in index.entries] == ["object_set-000001", "object_set-000002"]
    assert verify(tmp_path / "out" / "vista.index.json") == []

    content = members(index, 0)
    assert PreferenceRow.from_json(json.loads(content.pop("json"))) == PreferenceRow(
        key="object_set-000001",
        video_id="star/a",
        question="What is it?",
        chosen="A red ball.",
        rejected="A blue ball.",
        irrelevant="It is raining.",
        boxes=(Box(5.0, 6.5, 10.0, 8.299999999999999),),
        video=VideoFacts(12, 4.0, WIDTH, HEIGHT),
        clip=VideoFacts(4, 4.0, WIDTH, HEIGHT),
        clip_negative=VideoFacts(3, 4.0, WIDTH, HEIGHT),
        key_frame=True,
        source="star",
    )
    assert set(content) == {"mp4", "clip.mp4", "clip_negative.mp4", "frame.jpg"}
    assert content["frame.jpg"] == (videos / "frame/star/a/frame1.jpg").read_bytes()
    assert [entry.facts["irrelevant"] for entry in index.entries] == [True, False]


def test_only_templates_besides_the_released_video_token_are_warned_of(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write(tmp_path, [row("a", prompt="<video>\nWhat is it?"), row("b", prompt="<video>\nUSER: What is it?")])
    for strip, question in ((False, "USER: What is it?"), (True, "What is it?")):
        index = prepare_vistadpo(rows, videos, tmp_path / f"out{strip}", strip_templates=strip)
        texts = [json.loads(members(index, position)["json"])["question"] for position in (0, 1)]
        assert texts == ["What is it?", question]
        assert "1 text has what looks like a chat template around it" in capsys.readouterr().err


def test_frames_are_in_natural_order_and_other_files_are_passed_over(tmp_path: Path, videos: Path) -> None:
    (videos / "star/a/.DS_Store").write_bytes(b"x")
    (videos / "star/a/._frame1.png").write_bytes(b"x")
    (videos / "star/a/notes.txt").write_text("x")
    assert [path.name for path in pictures(videos / "star/a")] == [f"frame{place}.png" for place in range(1, 13)]
    index = prepare_vistadpo(write(tmp_path, [row("a")]), videos, tmp_path / "vista")
    assert grey(members(index, 0)["mp4"], 12) == list(range(12))


def test_a_key_frame_of_another_format_becomes_a_jpeg(tmp_path: Path, videos: Path) -> None:
    shutil.rmtree(videos / "frame/star/a")
    write_pictures(videos / "frame/star/a", 1)
    cv2.imwrite(str(videos / "frame/star/a/frame1.png"), np.full((HEIGHT, WIDTH, 3), (10, 20, 200), np.uint8))
    content = members(prepare_vistadpo(write(tmp_path, [row("a")]), videos, tmp_path / "vista"), 0)
    assert content["frame.jpg"].startswith(b"\xff\xd8")
    red, _, blue = decode_image(content["frame.jpg"]).float().mean((1, 2)).tolist()
    assert red > 190
    assert blue < 20


def test_lossless_keeps_every_value(tmp_path: Path, videos: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    cv2.imwrite(str(videos / "star/a/frame3.png"), noise)
    index = prepare_vistadpo(write(tmp_path, [row("a")]), videos, tmp_path / "vista", lossless=True)
    assert (decode_frames(members(index, 0)["mp4"], [2])[0].permute(1, 2, 0).numpy() == noise[..., ::-1]).all()


def test_clips_and_boxes_are_optional_in_rows_and_by_choice(tmp_path: Path, videos: Path) -> None:
    plain = row("b", clip_w=None, clip_l=None, bbox=None, frame=None)
    rows = write(tmp_path, [row("a"), plain])
    index = prepare_vistadpo(rows, videos, tmp_path / "all")
    assert set(members(index, 1)) == {"mp4", "json"}
    assert index.entries[1].facts["clip"] is None
    assert index.entries[1].facts["boxes"] == []

    shutil.rmtree(videos / "clip")
    shutil.rmtree(videos / "frame")
    index = prepare_vistadpo(rows, videos, tmp_path / "neither", clips=False, objects=False)
    assert set(members(index, 0)) == {"mp4", "json"}


def test_the_released_files_kinds_of_faults_are_all_listed_and_nothing_is_written(tmp_path: Path, videos: Path) -> None:
    path, output = write(tmp_path, faulty_rows()), tmp_path / "out" / "vista"
    message = message_of(path, videos, output)
    assert "16 of 40 rows are bad" in message
    assert "faults by field: bbox 6, prompt 9, rejected 1, rejected_2 1\n" in message
    assert "row 3 (star/c), rejected: is empty" in message
    assert "row 4 (star/d), rejected_2: is empty" in message
    assert "row 5 (star/a), bbox: has no area (0 x 0)" in message
    assert "row 40 (star/d), prompt: repeats row 32: the same video and prompt" in message
    assert "the other 24" in message
    assert list(tmp_path.rglob("*.tar*")) == list(tmp_path.rglob("vista*")) == []


def test_skip_bad_writes_the_good_rows_and_lists_the_rest(tmp_path: Path, videos: Path) -> None:
    rows = faulty_rows()
    index = prepare_vistadpo(write(tmp_path, rows), videos, tmp_path / "vista", skip_bad=True)
    skipped = [json.loads(line) for line in (tmp_path / "vista.skipped.jsonl").read_text().splitlines()]
    counts = Counter(fault["field"] for record in skipped for fault in record["faults"])
    assert counts == {"bbox": 6, "prompt": 9, "rejected": 1, "rejected_2": 1}
    assert len(index) == 24
    assert all(record["content"] == rows[record["row"] - 1] for record in skipped)
    kept = {int(entry.key[-6:]) for entry in index.entries}
    assert kept | {record["row"] for record in skipped} == set(range(1, 41))


def faulty_rows() -> Rows:
    """40 rows with the released faults: 2 empty texts, 6 boxes without area, 9 repeats, of which one has such a box."""
    rows = [row("abcd"[number % 4], prompt=f"Question {number}?") for number in range(40)]
    rows[2]["rejected"] = ""
    rows[3]["rejected_2"] = " "
    for number in (4, 8, 12, 16, 20, 24):
        rows[number]["bbox"] = "'x': 7.0, 'y': 9.0, 'w': 0.0, 'h': 0.0"
    for number in (24, *range(32, 40)):
        rows[number]["prompt"] = rows[number - 8]["prompt"]
    return rows


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"chosen": None}, "chosen: is missing"),
        ({"chosen": 3}, "chosen: is not text but 3"),
        ({"rejected_2": "<video>"}, "rejected_2: has a <video> token"),
        ({"rejected": "A red ball."}, "rejected: is the same text as the chosen answer"),
        ({"prompt": "<video>\n"}, "prompt: is empty"),
        ({"video": "star/none"}, "video: there is no folder"),
        ({"video": "../outside"}, "video: '../outside' leaves the folder of videos"),
        ({"video": "/outside"}, "video: '/outside' leaves the folder of videos"),
        ({"clip_l": None}, "clip_l: is missing; clip_w and clip_l come together"),
        ({"bbox": None}, "bbox: is missing; bbox and frame come together"),
        ({"clip_w": "clip"}, "clip_w: {videos}/clip holds no pictures"),
        ({"bbox": "'x': 30, 'y': 0, 'w': 8, 'h': 8"}, "bbox: (30, 0) to (38, 8) is outside the frame of 32 x 24"),
        ({"bbox": "__import__('os')"}, "bbox: is not four numbers"),
        ({"chosen": "\ud83d"}, "chosen: has half a surrogate pair"),
    ],
)
def test_each_fault_names_row_and_field(tmp_path: Path, videos: Path, changes: dict[str, Any], expected: str) -> None:
    path = write(tmp_path, [row("a"), {**row("b"), **changes}])
    message = message_of(path, videos, tmp_path / "vista")
    assert f"row 2 (star/b), {expected.format(videos=videos)}" in message
    assert message.count("row 2") == 1
    assert "row 1" not in message


def test_all_faults_of_one_row_are_told_even_without_its_video(tmp_path: Path, videos: Path) -> None:
    bad = row("none", chosen="", bbox="'x': 1, 'y': 1, 'w': 0, 'h': 4", clip_w=None, clip_l=None, frame="frame/star/a")
    message = message_of(write(tmp_path, [bad, row("a")]), videos, tmp_path / "vista")
    assert "faults by field: bbox 1, chosen 1, video 1\n" in message


def test_damaged_and_unequal_pictures_are_named(tmp_path: Path, videos: Path) -> None:
    (videos / "star/a/frame7.png").write_bytes(b"not a picture")
    write_pictures(videos / "clip/clip_w/star/b", 1, size=(16, 16))
    shutil.rmtree(videos / "frame/star/c")
    write_pictures(videos / "frame/star/c", 1, size=(64, 48))
    message = message_of(write(tmp_path, [row(name) for name in "abcd"]), videos, tmp_path / "vista")
    assert "row 1 (star/a), video: frame7.png: undecodable picture" in message
    assert "row 2 (star/b), clip_w: frame2.png is 32 x 24, the first picture 16 x 16" in message
    assert "row 3 (star/c), frame: frame1.png is 64 x 48, the video 32 x 24" in message
    assert "row 4" not in message


def test_lines_that_are_no_rows_are_faults_and_blank_ones_are_not(tmp_path: Path, videos: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join([json.dumps(row("a")), "", "{'id': 1}", "[1, 2]", "[" * 100_000, "{}", ""]))
    message = message_of(path, videos, tmp_path / "vista")
    assert "rows.jsonl: 4 of 5 rows are bad" in message
    assert "row 3, line: is not JSON" in message
    assert "row 4, line: is not a JSON object" in message
    assert "row 5, line: is not JSON" in message
    assert "row 6, line: is not a JSON object with fields" in message


def test_no_good_row_is_an_error_even_when_bad_ones_may_be_skipped(tmp_path: Path, videos: Path) -> None:
    path = write(tmp_path, [row("a", chosen="")])
    message_of(path, videos, tmp_path / "vista", skip_bad=True)
    assert not list(tmp_path.glob("vista*"))


def test_shards_take_the_name_of_the_rows_in_a_folder_and_are_never_overwritten(tmp_path: Path, videos: Path) -> None:
    rows = write(tmp_path, [row("a"), row("b"), row("c")], "my rows.jsonl")
    index = prepare_vistadpo(rows, videos, f"{tmp_path}/new/", samples_per_shard=2)
    assert [shard.name for shard in index.shards] == ["my rows-000000.tar", "my rows-000001.tar"]
    assert index.entries[2].key == "my-rows-11dbeaa3-000003"
    with pytest.raises(ValueError, match="there already"):
        prepare_vistadpo(rows, videos, tmp_path / "new")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"rows": "none.jsonl"}, "no such file"),
        ({"rows": "empty.jsonl"}, "holds no rows"),
        ({"rows": "latin.jsonl"}, "is not UTF-8"),
        ({"videos": "none"}, "no such folder"),
        ({"fps": 0.0}, "fps must be above 0"),
        ({"fps": float("nan")}, "fps must be above 0"),
    ],
)
def test_wrong_arguments_say_what_to_give(tmp_path: Path, videos: Path, change: dict[str, Any], expected: str) -> None:
    write(tmp_path, [row("a")])
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "\xe9"}')
    arguments: dict[str, Any] = {"rows": "object_set.jsonl", "videos": "videos", **change}
    arguments.update(rows=tmp_path / arguments["rows"], videos=tmp_path / arguments["videos"])
    with pytest.raises(ValueError, match=expected):
        prepare_vistadpo(output=tmp_path / "vista", **arguments)
