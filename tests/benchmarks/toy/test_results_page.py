"""docs/results.md is made from the files beside it, and says what was not run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.report.tables import Cell, Row, Table
from benchmarks.toy.results_page import FOLDER, PAGE, Page, PageTable, main, read_page, results_markdown, take_in

TABLE = PageTable("Runs", ["run", "motion"], [["base", "1.0"], ["dense", "**1.1**"]])


def page(title: str, **fields: object) -> Page:
    return Page(title, "make study", **fields)  # type: ignore[arg-type]


def test_the_page_in_the_repository_is_what_its_command_writes() -> None:
    assert PAGE.read_text(encoding="utf-8") == results_markdown(), "run python -m benchmarks.toy.results_page"
    assert list(FOLDER.glob("*.json"))


def test_parts_are_stored_and_shown_whole(tmp_path: Path) -> None:
    full = page(
        "A study",
        text=["What it asks."],
        conditions=PageTable("Conditions", ["condition", "here"], [["C1 r", "0.1"]]),
        tables=[TABLE],
        controls=PageTable("Controls", ["run", "motion"], [["random signs", "1.0"]]),
        pictures=[{"file": "plot.png", "text": "a plot"}],
        notes=["One seed."],
        rows={"study-eta": "noise levels", "study-noise": "label noise"},
        made_with={"seeds": [0, 1], "minutes": {"all": 3.5}},
        data={"seeds": [1, 2]},
    )
    path = full.write(tmp_path, "study")
    (path.parent / "plot.png").write_bytes(b"png")
    assert read_page(path) == full
    text = full.markdown(["study-eta"])
    order = ["## A study", "make study", "What it asks.", "Conditions", "| C1 r | 0.1 |", "Runs", "| dense | **1.1** |"]
    order += ["Controls", "| random signs | 1.0 |", "![a plot](results/plot.png)", "- One seed."]
    order += ["Not run: label noise.", "Made with seeds 0 1, minutes all 3.5."]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "noise levels" not in text, "it was run"


def test_parts_come_in_their_order(tmp_path: Path) -> None:
    for name, order in (("a", 2), ("b", 1), ("c", 2)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"title": name, "command": "x", "order": order}))
    headings = [line for line in results_markdown(tmp_path).splitlines() if line.startswith("## ")]
    assert headings == ["## b", "## a", "## c"]


def test_a_reports_table_keeps_its_best() -> None:
    table = PageTable.of("T", Table(("run", "x"), [Row("a", "", [Cell("1", None, True)])]))
    assert table.rows == [["a", "**1**"]]
    assert "| a | **1** |" in table.markdown()


def test_a_studys_parts_and_pictures_are_taken_in(tmp_path: Path) -> None:
    path = page("S", pictures=[{"file": "plot.png", "text": "a"}]).write(tmp_path / "run", "s")
    with pytest.raises(ValueError, match=r"names the picture plot\.png, which is not beside it"):
        take_in(tmp_path / "run", tmp_path / "docs")
    (path.parent / "plot.png").write_bytes(b"png")
    assert take_in(tmp_path / "run", tmp_path / "docs") == ["s.json", "plot.png"]
    assert "## S" in results_markdown(tmp_path / "docs")


def test_what_is_no_part_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content in (
        "{",
        '{"title": "x"}',
        '{"title": "x", "command": "y", "other": 1}',
        '{"title": "x", "command": "y", "tables": [1]}',
    ):
        (tmp_path / "x.json").write_text(content)
        with pytest.raises(ValueError, match="is no part of the results page"):
            read_page(tmp_path / "x.json")
    with pytest.raises(ValueError, match="a row of 1 cells under 2 headings"):
        PageTable("T", ["a", "b"], [["1"]])
    assert main([str(tmp_path / "nothing")]) == 1
    assert "let the study come to its end" in capsys.readouterr().err
