import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from benchmarks.base.paper_tables import find_row
from benchmarks.report.__main__ import main
from benchmarks.report.loss_curves import loss_chart
from benchmarks.report.page import markdown, tables, views_section, web_page
from benchmarks.report.runs import Run, read_run, read_runs
from benchmarks.report.score_charts import score_chart
from benchmarks.report.score_tables import main_table, notes, subset_table
from benchmarks.report.tables import Cell, Row, Table


def write_metrics(folder: Path, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True)
    names = list(dict.fromkeys(name for row in rows for name in row))
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def write_test(folder: Path, overall: float, sha256: str = "aa", skipped: dict[str, str] | None = None) -> None:
    folder.mkdir(parents=True)
    scores = {"basic_accuracy": 0.9, "halluc_accuracy": overall, "accuracy": overall}
    details = {
        "annotations": {"temporal": {"sha256": sha256}},
        "skipped": skipped or {},
        "bias": {"all": {"pct_diff": 0.25}},
        "auc": {"all": 0.875},
        "command": ["/somewhere/vidpref.py", "test", "--model.name", "two words"],
        "seed": 3,
        "git_commit": None,
        "git_dirty": None,
        "versions": {"torch": "2.15.0"},
    }
    (folder / "results.json").write_text(json.dumps({"temporal": scores, "all": scores}))
    (folder / "details.json").write_text(json.dumps(details))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A run that was only tested."""
    write_test(tmp_path / "base" / "test", 0.25)
    return tmp_path / "base"


@pytest.fixture
def vista(tmp_path: Path) -> Path:
    """A run that was stopped after step 3, resumed after step 1, validated and tested."""
    folder = tmp_path / "vista"
    first = [{"step": step, "train/loss": 2.0 - step / 10, "train/loss/video": 0.7} for step in range(4)]
    write_metrics(folder / "fit" / "version_0", [*first, {"step": 3, "val/rewards/accuracies": 0.5}])
    second = [
        {"step": step, "train/loss": 1.0, "train/loss/video": 0.6, "train/loss/late": 0.1} for step in range(2, 5)
    ]
    write_metrics(folder / "fit" / "version_10", [*second, {"step": 4, "val/rewards/accuracies": 0.75}])
    write_metrics(folder / "fit" / "version_2", [{"step": 9, "train/data_wait": 0.1}])
    record = {"command": ["vidpref", "fit"], "git_commit": "abc123", "git_dirty": True, "versions": {"peft": "0.21"}}
    (folder / "fit" / "version_10" / "run.json").write_text(json.dumps(record))
    (folder / "fit" / "version_10" / "config.yaml").write_text("# lightning\nseed_everything: 11\ntrainer:\n")
    write_test(folder / "test", 0.5)
    return folder


def test_curves_of_a_resumed_run_join_without_repeated_steps(vista: Path) -> None:
    run = read_run(vista)
    assert set(run.curves) == {"total", "video", "late"}
    assert run.curves["total"].steps == [0, 1, 2, 3, 4]
    assert run.curves["total"].values == pytest.approx([2.0, 1.9, 1.0, 1.0, 1.0])
    assert run.curves["late"].steps == [2, 3, 4]


def test_the_last_reward_accuracy_counts_and_a_validation_of_its_own_most(vista: Path) -> None:
    assert read_run(vista).reward_accuracy == 0.75
    write_metrics(vista / "validate" / "version_0", [{"step": 4, "val/rewards/accuracies": 0.8}])
    assert read_run(vista).reward_accuracy == 0.8


def test_seed_command_and_commit_are_read_from_the_record(vista: Path) -> None:
    (record,) = read_run(vista).records
    assert record["seed"] == 11
    assert record["git_commit"] == "abc123"


def test_the_table_compares_in_percent_and_marks_the_best(base: Path, vista: Path) -> None:
    table = main_table([read_run(base), read_run(vista)])
    told = [[cell.text for cell in row.cells] for row in table.rows]
    assert told == [["90.0", "25.0", "25.0", "-", "0.875", "+25.0"], ["90.0", "50.0", "50.0", "75.0", "0.875", "+25.0"]]
    assert [[cell.best for cell in row.cells][:3] for row in table.rows] == [[False] * 3, [False, True, True]]


def test_the_markdown_has_both_tables(base: Path, vista: Path) -> None:
    text = markdown([read_run(base), read_run(vista)])
    assert "| vista | 90.0 | **50.0** | **50.0** | 75.0 | 0.875 | +25.0 |" in text
    assert "| run | temporal | all |" in text
    assert all(line.count("|") in (0, 8, 4) for line in text.splitlines())


def test_an_untested_run_has_dashes(tmp_path: Path) -> None:
    write_metrics(tmp_path / "young" / "fit" / "version_0", [{"step": 0, "train/loss": 1.0}])
    run = read_run(tmp_path / "young")
    assert {cell.text for cell in main_table([run]).rows[0].cells} == {"-"}
    assert not subset_table([run]).rows
    assert "young" in web_page([run])


def test_left_out_questions_and_other_questions_are_said(base: Path, tmp_path: Path) -> None:
    write_test(tmp_path / "other" / "test", 0.5, sha256="bb", skipped={"temporal/000000/basic": "a.mp4"})
    said = notes([read_run(base), read_run(tmp_path / "other")])
    assert len(said) == 2
    assert "1 questions were left out" in said[0]
    assert "cannot be compared" in said[1]


class Page(HTMLParser):
    """Collects what a page asks of the network, its open tags, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "data", "action")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_whole_and_needs_no_other_file(base: Path, vista: Path) -> None:
    page = Page()
    content = web_page([read_run(base), read_run(vista)], [views_section(b"\x89PNG")])
    page.feed(content)
    assert not page.open
    assert "data:image/png;base64,iVBORw==" in page.addresses
    assert [one for one in page.addresses if not one.startswith(("data:", "#"))] == []
    assert not re.search(r"@import|url\((?!#)", content)
    for told in ("0.875", "hallucinated", "abc123 with local changes", "peft 0.21", "vidpref fit", "late"):
        assert told in page.text
    assert "vidpref test --model.name 'two words'" in page.text


def test_names_are_escaped(tmp_path: Path) -> None:
    write_test(tmp_path / "<b>&" / "test", 0.5)
    assert "<b>&" not in web_page([read_run(tmp_path / "<b>&")])


def test_the_chart_is_drawn_alike_each_time_and_takes_the_pages_colour(base: Path, vista: Path) -> None:
    runs = [read_run(base), read_run(vista)]
    chart = loss_chart(runs)
    assert chart == loss_chart(runs)
    assert "currentColor" in chart
    assert "#010203" not in chart
    titles = {element.text for element in ElementTree.fromstring(chart).iter() if element.text}  # noqa: S314
    assert {"total", "video", "late"} <= titles
    assert loss_chart([read_run(base)]) == ""


def test_a_folder_without_a_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert "neither results.json nor metrics.csv" in capsys.readouterr().err


def test_two_tests_in_one_folder_are_refused(vista: Path) -> None:
    write_test(vista / "test-again", 0.5)
    with pytest.raises(ValueError, match="several tests"):
        read_run(vista)


def test_the_command_prints_and_writes(
    base: Path, vista: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "views.png"
    picture.write_bytes(b"\x89PNG")
    out = {"--html": tmp_path / "report.html", "--markdown": tmp_path / "report.md", "--title": "A title"}
    main([str(base), str(vista), "--picture", str(picture), *(str(one) for pair in out.items() for one in pair)])
    assert "50.0" in capsys.readouterr().out
    assert "<title>A title</title>" in (tmp_path / "report.html").read_text()
    assert "**50.0**" in (tmp_path / "report.md").read_text()


def test_a_run_is_named_after_its_folder(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base)
    run: Run = read_run(Path())
    assert run.name == "base"


def test_runs_whose_folders_share_a_name_are_told_apart_in_every_table(tmp_path: Path) -> None:
    folders = [tmp_path / "base/test", tmp_path / "vista/test", tmp_path / "dpo"]
    for folder, binary in zip(folders, (0.25, 0.5, 0.75), strict=True):
        write_event_test(folder / "events", binary)
    found = tables(read_runs(folders))["EventHallusion, with intervals"]
    assert found.header == (
        "score", "unit", "base/test", "vista/test", "dpo", "vista/test minus base/test", "dpo minus base/test"
    )  # fmt: skip
    assert {len(row.cells) for row in found.rows} == {6}
    with pytest.raises(ValueError, match="given twice"):
        read_runs([folders[0], tmp_path / "dpo/../base/test"])


def test_runs_of_one_name_all_have_a_column(base: Path) -> None:
    write_event_test(base / "events", 0.25, paper=67.2)
    runs = [read_run(base), read_run(base)]
    assert tables(runs)["EventHallusion, with intervals"].header == ("score", "unit", "base", "base", "base minus base")
    said = [note for note in notes(runs) if "not comparable" in note]
    assert said == ["base, base: not comparable with VistaDPO, table 1: another size."], "once for both"


def write_event_test(folder: Path, binary: float, paper: float | None = None) -> None:
    """Results of another benchmark, with intervals."""
    folder.mkdir(parents=True)
    scores = {"binary_accuracy": binary, "questions": 4}
    about: dict[str, Any] = {
        "benchmark": "EventHallusion",
        "intervals": {"level": 0.95, "of": {"entire/binary_accuracy": [0.1, 0.4], "all/binary_accuracy": [0.2, 0.75]}},
    }
    if paper is not None:
        number = {"score": "all/binary_accuracy", "paper": paper}
        about["paper"] = {"source": "VistaDPO, table 1", "numbers": [number], "not_comparable": ["another size"]}
    results = {"entire": scores, "all": scores, "about": about}
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "details.json").write_text(json.dumps({"annotations": {"entire": {"sha256": "cc"}}, "skipped": {}}))


def test_a_run_may_be_tested_on_several_benchmarks(base: Path, vista: Path) -> None:
    write_event_test(base / "events", 0.25)
    write_event_test(vista / "events", 0.5, paper=67.2)
    runs = [read_run(base), read_run(vista)]
    assert set(runs[0].tests) == {"VideoHallucer", "EventHallusion"}
    found = tables(runs, [find_row("vista_dpo/table1/Video-LLaVA + VistaDPO")])
    events = found["EventHallusion, with intervals"]
    published = "Video-LLaVA + VistaDPO, VistaDPO (arXiv 2504.13122), table 1"
    assert events.header == ("score", "unit", "base", "vista", "vista minus base", published)
    assert [[row.name, *(cell.text for cell in row.cells)] for row in events.rows] == [
        ["entire/binary_accuracy", "%", "25.0 (10.0 to 40.0)", "50.0 (10.0 to 40.0)", "+25.0", "50.9"],
        ["all/binary_accuracy", "%", "25.0 (20.0 to 75.0)", "50.0 (20.0 to 75.0)", "+25.0", "67.2"],
    ]
    assert [cell.text for cell in found["VideoHallucer"].rows[2].cells] == ["98.2", "64.4", "54.3", "-", "-", "-"]
    assert "vista: not comparable with VistaDPO, table 1: another size." in notes(runs)
    why = "results of an earlier version do not have each question's contribution"
    assert f"vista: no interval of the difference to base: {why}." in notes(runs)


def write_judged_test(folder: Path, unread: int) -> None:
    """Results of 40 answers that a judge read."""
    folder.mkdir(parents=True)
    about: dict[str, Any] = {
        "benchmark": "MSVD-QA",
        "intervals": {"level": 0.95, "of": {"accuracy": [0.9, 1.0], "exact_match/All": [0.1, 0.3]}},
        "unparsed": {"accuracy": [unread, 40]},
        "remarks": ["the judge was asked in other words"],
    }
    results = {"accuracy": 1.0, "exact_match": {"All": 0.2}, "about": about}
    (folder / "results.json").write_text(json.dumps(results))


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


def test_scores_are_drawn_with_intervals_and_the_papers_numbers(base: Path, vista: Path) -> None:
    assert score_chart([read_run(base)]) == ""
    write_event_test(base / "events", 0.25)
    write_event_test(vista / "events", 0.5, paper=67.2)
    runs = [read_run(base), read_run(vista)]
    chart = score_chart(runs)
    assert chart == score_chart(runs)
    texts = {element.text for element in ElementTree.fromstring(chart).iter() if element.text}  # noqa: S314
    assert {"EventHallusion", "all/binary_accuracy", "percent"} <= texts
    assert "entire/binary_accuracy" not in texts, "only the numbers over all parts"
    assert chart.count("<use") > score_chart([read_run(base)]).count("<use"), "points and the paper's diamond"
    assert "Scores</h2>" in web_page(runs)


def test_the_command_takes_the_papers_rows(
    base: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    main([str(base), "--paper", "vista_dpo/table1/PLLaVA"])
    assert "PLLaVA, VistaDPO (arXiv 2504.13122), table 1" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([str(base), "--paper", "vista_dpo/table1/nobody"])
    assert "no row 'nobody'" in capsys.readouterr().err


def wide_table() -> Table:
    rows = [Row(f"[bold]run|{n}[0]", "red", [Cell(f"{n}{column}.5") for column in range(10, 22)]) for n in range(2)]
    return Table(("run", *(f"Video-LLaVA + VistaDPO {column}" for column in range(12))), rows)


@pytest.mark.parametrize("width", [40, 60, 100, 400])
def test_a_narrow_terminal_cuts_no_number_and_no_name(width: int) -> None:
    console = Console(width=width, file=io.StringIO())
    wide_table().show(console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(cell.text in shown for row in wide_table().rows for cell in row.cells)
    assert max(map(len, shown.splitlines())) <= width
    assert "[bold]run|1[0]" in shown or width < 100, "a name may be folded"


def test_names_do_not_break_the_markdown() -> None:
    header, _, *rows = wide_table().markdown().splitlines()
    assert all(line.replace("\\|", "").count("|") == header.count("|") for line in rows)


def test_scores_and_percent_stand_on_axes_of_their_own(tmp_path: Path) -> None:
    write_test(tmp_path / "judged" / "test", 0.5)
    path = tmp_path / "judged" / "test" / "results.json"
    results = json.loads(path.read_text())
    results["all"]["average_score"] = 2.5
    ends = {"all/accuracy": [0.4, 0.6], "all/average_score": [2.0, 3.0]}
    path.write_text(json.dumps(results | {"about": {"intervals": {"of": ends}}}))
    drawn = score_chart([read_run(tmp_path / "judged")])
    assert all(f">{unit}<" in drawn for unit in ("percent", "score"))
