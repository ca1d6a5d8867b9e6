"""Captions beside videos and in tables; every way in which one can be missing is a fault of its row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.prepare.captions import CaptionedVideo, read_captions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three videos, one of them deeper; nothing here is decoded."""
    root = tmp_path / "videos"
    (root / "deep").mkdir(parents=True)
    for name in ("b.mp4", "a.mp4", "deep/c.MOV"):
        (root / name).write_bytes(b"video")
    return root


def captions_of(captioned: list[CaptionedVideo]) -> dict[str, str]:
    return {video.video_id: video.caption for video in captioned if not video.row.faults}


def faults(captioned: list[CaptionedVideo]) -> list[str]:
    return [f"{video.row}, {fault}" for video in captioned for fault in video.row.faults]


def write_jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_text_files_beside_the_videos(folder: Path) -> None:
    (folder / "a.txt").write_text("\ufeffA dog\n runs. \n", encoding="utf-8")
    (folder / "b.txt").write_text("  \n")
    captioned = read_captions([folder])
    assert [video.video_id for video in captioned] == ["a.mp4", "b.mp4", "deep/c.MOV"]
    assert captions_of(captioned) == {"a.mp4": "A dog runs."}
    assert faults(captioned) == [
        "b.mp4, caption: is empty; give the text, or leave the row out",
        "deep/c.MOV, caption: there is no c.txt beside it, and no table of captions",
    ]
    (folder / "a.txt").write_bytes(b"\xff\xfe\x00")
    assert "a.mp4, caption: a.txt cannot be read as UTF-8" in faults(read_captions([folder]))[0]


@pytest.mark.parametrize("table", ["captions.csv", "metadata.jsonl"])
def test_a_table_in_the_folder_is_found_and_wins(folder: Path, table: str) -> None:
    (folder / "a.txt").write_text("Not this.")
    rows = [("a.mp4", 'A "dog", running.'), ("./deep/c.MOV", "A cat.\nIt sleeps."), ("b.mp4", "A fish.")]
    if table.endswith(".csv"):
        cells = [f'{video},"{caption.replace(chr(34), chr(34) * 2)}",7' for video, caption in rows]
        (folder / table).write_text("\n".join(["file_name,text,rating", *cells]))
    else:
        write_jsonl(folder / table, *({"file_name": video, "text": caption} for video, caption in rows))
    captioned = read_captions([folder])
    assert captions_of(captioned) == {
        "a.mp4": 'A "dog", running.',
        "deep/c.MOV": "A cat. It sleeps.",
        "b.mp4": "A fish.",
    }
    assert all(video.path.is_file() for video in captioned)


def test_each_fault_of_a_table_is_told_by_row(folder: Path) -> None:
    table = folder.parent / "mine.csv"
    table.write_text("video,caption\na.mp4,A dog.\nnone.mp4,A cat.\nb.mp4,\na.mp4,Twice.\n,Nothing.\nb.mp4,A, comma\n")
    assert faults(read_captions([folder], table)) == [
        f"row 3, video: there is no file none.mp4 in {folder} or {folder.parent}",
        "row 4, caption: is empty; give the text, or leave the row out",
        "row 5, video: repeats row 2: the same a.mp4",
        "row 6, video: is empty; give the text, or leave the row out",
        "row 7, line: has 1 more cells than the header; quote texts that hold a comma",
        "row 7, video: repeats row 4: the same b.mp4",
        "deep/c.MOV, caption: is missing: mine.csv has no row of this video",
    ]
    lines = write_jsonl(folder / "captions.jsonl", {"video": "a.mp4", "caption": 3}, {"video": "b.mp4"})
    lines.write_text(lines.read_text() + "no json\n")
    assert [line.partition(":")[0] for line in faults(read_captions([folder]))] == [
        "row 1, caption",
        "row 2, caption",
        "row 3, line",
        "deep/c.MOV, caption",
    ]


def test_paths_begin_in_a_folder_of_videos_in_the_tables_or_anywhere(folder: Path) -> None:
    table = write_jsonl(
        folder.parent / "mine.jsonl",
        {"video": "a.mp4", "caption": "One."},
        {"video": "videos/b.mp4", "caption": "Two."},
        {"video": str(folder / "deep" / "c.MOV"), "caption": "Three."},
    )
    assert captions_of(read_captions([folder], table)) == {"a.mp4": "One.", "b.mp4": "Two.", "deep/c.MOV": "Three."}


def test_only_the_videos_that_were_asked_for_are_taken(folder: Path) -> None:
    table = write_jsonl(
        folder.parent / "mine.jsonl",
        {"video": "videos/a.mp4", "caption": "One."},
        {"video": "videos/b.mp4", "caption": "Two."},
        {"video": "none.mp4", "caption": "Three."},
    )
    assert captions_of(read_captions([folder / "a.mp4"], table)) == {"a.mp4": "One."}
    assert faults(read_captions([folder / "a.mp4"], table)) == []
    captioned = read_captions([folder / "deep"], table)
    assert [line.partition(",")[0] for line in faults(captioned)] == ["row 3", "c.MOV"]


def test_columns_of_any_name(folder: Path) -> None:
    table = folder.parent / "pairs.csv"
    table.write_text("path_A,path_B,prompt\nvideos/a.mp4,videos/b.mp4,A dog.\n")
    with pytest.raises(
        ValueError, match=r"no column video or file_name.*video_column to one of path_A, path_B, prompt"
    ):
        read_captions([folder], table)
    captioned = read_captions([folder], table, video_column="path_A")
    assert captions_of(captioned) == {"a.mp4": "A dog."}
    with pytest.raises(ValueError, match="no column title; set caption_column to one of"):
        read_captions([folder], table, "path_A", "title")


def test_what_is_no_input_at_all_is_an_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file or folder"):
        read_captions([tmp_path / "none"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no video in it"):
        read_captions([tmp_path / "empty"])
    for name, message in (("none.csv", "no such file"), ("none.jsonl", "no such file"), ("a.tsv", "come in a .csv")):
        with pytest.raises(ValueError, match=message):
            read_captions([folder], tmp_path / name)
    for name in ("captions.csv", "metadata.csv"):
        (folder / name).write_text("video,caption\n")
    with pytest.raises(ValueError, match=r"could come from .*captions.csv, .*metadata.csv; name the one"):
        read_captions([folder])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no rows"),
        ("video,caption\n", "holds no rows"),
        ("video;caption\na.mp4;A dog.\n", "is it separated by ';'. use commas"),
        ("video\tcaption\na.mp4\tA dog.\n", "use commas"),
        ("video,caption,caption\na.mp4,A dog.,A cat.\n", "names 'caption' twice"),
    ],
)
def test_tables_that_are_none_say_what_they_are(folder: Path, text: str, message: str) -> None:
    table = folder / "captions.csv"
    table.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_captions([folder])


def test_blanks_in_a_header_and_an_ending_in_capitals_are_no_matter(folder: Path) -> None:
    table = folder.parent / "MINE.CSV"
    table.write_text("video , caption\na.mp4 , A dog.\n")
    assert captions_of(read_captions([folder], table)) == {"a.mp4": "A dog."}


def test_an_empty_object_is_a_fault_of_its_row(folder: Path) -> None:
    table = write_jsonl(folder / "captions.jsonl", {})
    assert faults(read_captions([folder]))[0].startswith("row 1, ")
    table.write_text("{}\n" + json.dumps({"video": "a.mp4", "caption": "A dog."}) + "\n")
    captioned = read_captions([folder])
    assert faults(captioned)[0].startswith("row 1, ")
    assert {video.video_id: video.row.record()["row"] for video in captioned if "deep" in video.video_id} == {
        "deep/c.MOV": None
    }


def test_a_mended_list_of_skipped_rows_asks_for_its_own_videos_alone(folder: Path) -> None:
    (folder / "a.txt").write_text("A dog.")
    skipped = [video.row.record() for video in read_captions([folder]) if video.row.faults]
    assert [row["content"] for row in skipped] == [{"video": "b.mp4"}, {"video": "deep/c.MOV"}]
    skipped[0]["content"]["caption"] = "A cat."
    table = write_jsonl(folder.parent / "out.skipped.jsonl", *skipped)
    captioned = read_captions([folder], table)
    assert captions_of(captioned) == {"b.mp4": "A cat."}
    assert faults(captioned) == ["row 2, caption: is missing"]
    write_jsonl(table, skipped[0], {"row": 4, "faults": [], "content": "no json"})
    assert faults(read_captions([folder], table))[0].startswith("row 2, content: is no JSON object")
