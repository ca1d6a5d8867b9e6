"""Tables whose columns the user names, and pairs of videos that are rated one by one."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.prepare.pairs import prepare_pairs
from tests.support.generated_pairs import COLUMNS, TABLE, labels_of, rows_of, written


@pytest.mark.parametrize("name", ["rows.csv", "rows.json", "rows.jsonl", "rows.parquet"])
def test_columns_by_flag_in_every_container(media: Path, tmp_path: Path, name: str) -> None:
    index = prepare_pairs(written(tmp_path, name, TABLE), tmp_path / "out", media=media, label_column="best", **COLUMNS)
    assert [row.caption for row in rows_of(index)] == ["one", "two"]
    assert list(labels_of(tmp_path / "out").values()) == ["second", "first"]


def test_scores_in_two_columns_and_tables_without_labels(media: Path, tmp_path: Path) -> None:
    table = written(tmp_path, "rows.json", TABLE)
    options = {"media": media, "format": "columns", **COLUMNS}
    prepare_pairs(table, tmp_path / "scored", score_columns=("sa", "sb"), margin=1.5, **options)
    assert list(labels_of(tmp_path / "scored").values()) == ["second", "tie"]
    index = prepare_pairs(table, tmp_path / "bare", **options)
    assert len(index) == 2
    assert not (tmp_path / "bare.labels.csv").exists()


def test_the_user_says_what_labels_mean(media: Path, tmp_path: Path) -> None:
    rows = [TABLE[0] | {"best": "0"}, TABLE[1] | {"best": "1"}]
    table, options = written(tmp_path, "rows.json", rows), {"media": media, "label_column": "best", **COLUMNS}
    with pytest.raises(ValueError, match=r"--label_column best: its labels 0, 1 may mean several things"):
        prepare_pairs(table, tmp_path / "out", **options)
    prepare_pairs(table, tmp_path / "out", labels={"0": "tie", "1": "second"}, **options)
    assert list(labels_of(tmp_path / "out").values()) == ["tie", "second"]
    with pytest.raises(ValueError, match="better is none of first, second, tie and drop"):
        prepare_pairs(table, tmp_path / "no", labels={"0": "better"}, **options)


def test_pairs_within_a_prompt_by_score_gap(media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["videos/a0", "videos/b0", "videos/a1", "videos/b1"]
    rows = [
        {"video_url": f"{name}.mp4", "prompt": prompt, "visual_score": score, "t2v_score": 1, "phy_score": 1}
        for name, prompt, score in zip(names, ["p", "p", "p", "q"], [4, 2, 1, 5], strict=True)
    ]
    table = written(tmp_path, "vf.json", rows)
    prepare_pairs(table, tmp_path / "all", media=media, axis="visual_score")
    assert labels_of(tmp_path / "all") == {"vf-1-3": "first", "vf-1-2": "first", "vf-2-3": "first"}
    capsys.readouterr()
    prepare_pairs(table, tmp_path / "far", media=media, axis="visual_score", margin=2)
    assert list(labels_of(tmp_path / "far")) == ["vf-1-3", "vf-1-2"]
    assert "dropped: phy_score 2, t2v_score 2" in capsys.readouterr().out
    prepare_pairs(table, tmp_path / "one", media=media, axis="visual_score", pairs_per_prompt=1)
    assert list(labels_of(tmp_path / "one")) == ["vf-1-3"]
    with pytest.raises(ValueError, match="no two videos of one prompt differ in t2v_score"):
        prepare_pairs(table, tmp_path / "none", media=media, axis="t2v_score")
    with pytest.raises(ValueError, match="choose an axis: --axis visual_score or t2v_score or phy_score"):
        prepare_pairs(table, tmp_path / "none", media=media)
