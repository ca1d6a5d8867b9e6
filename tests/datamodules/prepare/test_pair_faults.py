"""Tables of pairs that are refused, and rows that are named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from datamodules.prepare.pairs import prepare_pairs
from tests.support.generated_pairs import FORMATS, labels_of, written


def test_videofeedback_one_has_no_pairs(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="VideoFeedback 1 rates single videos, no two of one prompt, so it has no pairs"
    ):
        prepare_pairs(FORMATS / "videofeedback_row.json", tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"path_B": "videos/none.mp4"}, "path_B: there is no file"),
        ({"path_B": "videos/a0.mp4"}, "path_B: is the same video as the first"),
        ({"path_A": "<video>"}, "path_A: there is neither a folder of frames"),
        ({"VQ": "C"}, 'VQ: "C" is none of a, b, same, invalid'),
        ({"VQ": ""}, "VQ: is missing; it says which video is better"),
        ({"prompt": ""}, "row: does not fit videoalign, it has no prompt"),
        ({}, "row: repeats row 2: the same videos and prompt"),
    ],
)
def test_a_bad_row_is_named(media: Path, tmp_path: Path, change: dict[str, str], expected: str) -> None:
    row = {"path_A": "videos/a0.mp4", "path_B": "videos/b0.mp4", "prompt": "one", "VQ": "A", "MQ": "B"}
    table = written(tmp_path, "t.csv", [row, row | change])
    with pytest.raises(ValueError, match="nothing was written") as caught:
        prepare_pairs(table, tmp_path / "out", media=media, axis="VQ")
    assert f"row 3, {expected}" in str(caught.value)
    assert not list(tmp_path.glob("out*"))


def test_bad_pairs_may_be_skipped_and_have_no_label(media: Path, tmp_path: Path) -> None:
    row = {"path_A": "videos/a0.mp4", "path_B": "videos/b0.mp4", "prompt": "one", "VQ": "B"}
    table = written(tmp_path, "t.csv", [row, row | {"path_B": "videos/none.mp4"}, row | {"prompt": "two", "VQ": "A"}])
    index = prepare_pairs(table, tmp_path / "out", media=media, skip_bad=True)
    assert [entry.key for entry in index.entries] == ["t-000002", "t-000004"]
    assert labels_of(tmp_path / "out") == {"t-000002": "second", "t-000004": "first"}
    (skipped,) = (tmp_path / "out.skipped.jsonl").read_text().splitlines()
    assert (json.loads(skipped)["row"], json.loads(skipped)["content"]["path_B"]) == (3, "videos/none.mp4")
    with pytest.raises(ValueError, match="are there already"):
        prepare_pairs(table, tmp_path / "out", media=media, skip_bad=True)


def test_an_axis_is_chosen_where_there_are_several(media: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="compares videos on several axes; choose one: --axis VQ or MQ or TA"):
        prepare_pairs(FORMATS / "videoalign.csv", tmp_path / "out", media=media)
    with pytest.raises(ValueError, match="has no axis XY; there are VQ, MQ, TA"):
        prepare_pairs(FORMATS / "videoalign.csv", tmp_path / "out", media=media, axis="XY")


def test_a_table_of_no_layout_names_the_nearest(tmp_path: Path) -> None:
    table = written(tmp_path, "t.json", [{"path_A": "a.mp4", "prompt": "one"}])
    with pytest.raises(ValueError, match="fits no layout; the nearest is videoalign, for which it lacks path_B"):
        prepare_pairs(table, tmp_path / "out")
    with pytest.raises(ValueError, match="name the columns: --first_column"):
        prepare_pairs(table, tmp_path / "out", format="columns")


def test_videodpo_places_outside_its_list(media: Path, tmp_path: Path) -> None:
    shutil.copytree(FORMATS / "videodpo" / "part0", tmp_path / "part0")
    pairs = json.loads((tmp_path / "part0/pair.json").read_text())
    (tmp_path / "part0/pair.json").write_text(json.dumps([{**pairs[0], "video2": 2}]))
    with pytest.raises(ValueError, match=r"part0-000001, video2: is 2, no place in metadata\.json, which has 2 videos"):
        prepare_pairs(tmp_path / "part0", tmp_path / "out", media=media)
