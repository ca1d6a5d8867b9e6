"""Tables of several runs' results, with notes on what a reader must know."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.base.paper_tables import find_row
from benchmarks.report.page import markdown, tables, web_page
from benchmarks.report.runs import read_run, read_runs
from benchmarks.report.score_tables import main_table, notes, subset_table
from tests.support.run_folders import base, vista, write_event_test, write_judged_test, write_metrics, write_test

__all__ = ["base", "vista"]


def test_the_table_compares_in_percent_and_marks_the_best(base: Path, vista: Path) -> None:
    table = main_table([read_run(base), read_run(vista)])
    shown = [[cell.text for cell in row.cells] for row in table.rows]
    assert shown == [
        ["90.0", "25.0", "25.0", "-", "0.875", "+25.0"],
        ["90.0", "50.0", "50.0", "75.0", "0.875", "+25.0"],
    ]
    assert [[cell.best for cell in row.cells][:3] for row in table.rows] == [[False] * 3, [False, True, True]]


def test_an_untested_run_has_dashes(tmp_path: Path) -> None:
    write_metrics(tmp_path / "young" / "fit" / "version_0", [{"step": 0, "train/loss": 1.0}])
    run = read_run(tmp_path / "young")
    assert {cell.text for cell in main_table([run]).rows[0].cells} == {"-"}
    assert not subset_table([run]).rows
    assert "young" in web_page([run])


def test_left_out_questions_and_other_questions_are_said(base: Path, tmp_path: Path) -> None:
    write_test(tmp_path / "other" / "test", 0.5, sha256="bb", skipped={"temporal/000000/basic": "a.mp4"})
    remarks = notes([read_run(base), read_run(tmp_path / "other")])
    assert len(remarks) == 2
    assert "1 questions were left out" in remarks[0]
    assert "cannot be compared" in remarks[1]


def test_runs_whose_folders_share_a_name_are_told_apart_in_every_table(tmp_path: Path) -> None:
    folders = [tmp_path / "base/test", tmp_path / "vista/test", tmp_path / "dpo"]
    for folder, binary in zip(folders, (0.25, 0.5, 0.75), strict=True):
        write_event_test(folder / "events", binary)
    table = tables(read_runs(folders))["EventHallusion, with intervals"]
    assert table.header == (
        "score", "unit", "base/test", "vista/test", "dpo", "vista/test minus base/test", "dpo minus base/test"
    )  # fmt: skip
    assert {len(row.cells) for row in table.rows} == {6}
    with pytest.raises(ValueError, match="given twice"):
        read_runs([folders[0], tmp_path / "dpo/../base/test"])


def test_runs_of_one_name_all_have_a_column(base: Path) -> None:
    write_event_test(base / "events", 0.25, paper=67.2)
    runs = [read_run(base), read_run(base)]
    assert tables(runs)["EventHallusion, with intervals"].header == ("score", "unit", "base", "base", "base minus base")
    remarks = [note for note in notes(runs) if "not comparable" in note]
    assert remarks == ["base, base: not comparable with VistaDPO, table 1: another size."], "once for both"


def test_a_run_may_be_tested_on_several_benchmarks(base: Path, vista: Path) -> None:
    write_event_test(base / "events", 0.25)
    write_event_test(vista / "events", 0.5, paper=67.2)
    runs = [read_run(base), read_run(vista)]
    assert set(runs[0].tests) == {"VideoHallucer", "EventHallusion"}
    scores = tables(runs, [find_row("vista_dpo/table1/Video-LLaVA + VistaDPO")])
    events = scores["EventHallusion, with intervals"]
    published = "Video-LLaVA + VistaDPO, VistaDPO (arXiv 2504.13122), table 1"
    assert events.header == ("score", "unit", "base", "vista", "vista minus base", published)
    assert [[row.name, *(cell.text for cell in row.cells)] for row in events.rows] == [
        ["entire/binary_accuracy", "%", "25.0 (10.0 to 40.0)", "50.0 (10.0 to 40.0)", "+25.0", "50.9"],
        ["all/binary_accuracy", "%", "25.0 (20.0 to 75.0)", "50.0 (20.0 to 75.0)", "+25.0", "67.2"],
    ]
    assert [cell.text for cell in scores["VideoHallucer"].rows[2].cells] == ["98.2", "64.4", "54.3", "-", "-", "-"]
    assert "vista: not comparable with VistaDPO, table 1: another size." in notes(runs)
    why = "results of an earlier version do not have each question's contribution"
    assert f"vista: no interval of the difference to base: {why}." in notes(runs)


def test_unread_replies_of_a_judge_have_a_column_and_above_five_percent_a_warning(tmp_path: Path) -> None:
    write_judged_test(tmp_path / "prose", 20)
    write_judged_test(tmp_path / "exact", 2)
    runs = [read_run(tmp_path / "prose"), read_run(tmp_path / "exact")]
    table = tables(runs)["MSVD-QA, with intervals"]
    assert table.header == ("score", "unit", "prose", "unparsed", "exact", "unparsed", "exact minus prose")
    assert [[row.name, *(cell.text for cell in row.cells)] for row in table.rows] == [
        ["accuracy", "%", "100.0 (90.0 to 100.0)", "20 of 40", "100.0 (90.0 to 100.0)", "2 of 40", "+0.0"],
        ["exact_match/All", "%", "20.0 (10.0 to 30.0)", "-", "20.0 (10.0 to 30.0)", "-", "+0.0"],
    ]
    warning = "prose: Warning: 20 of 40 replies of the judge (50%) behind accuracy could not be read"
    console = Console(width=200, file=io.StringIO())
    table.show(console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for text in (markdown(runs), web_page(runs), shown):
        assert "unparsed" in text
        assert "20 of 40" in text
        assert (warning in text) == (text is not shown)
    assert sum("Warning" in note for note in notes(runs)) == 1, "2 of 40 are 5%, not more"
    assert "prose, exact: the judge was asked in other words." in notes(runs), "once for both"


def test_only_the_benchmarks_that_were_run_have_tables(tmp_path: Path) -> None:
    write_event_test(tmp_path / "one", 0.5)
    assert list(tables([read_run(tmp_path / "one")])) == ["EventHallusion, with intervals"]
