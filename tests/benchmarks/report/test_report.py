"""The report as Markdown, as a web page and from the command line."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.report.__main__ import main
from benchmarks.report.loss_curves import loss_chart
from benchmarks.report.page import markdown, views_section, web_page
from benchmarks.report.runs import read_run
from benchmarks.report.score_charts import score_chart
from tests.support.run_folders import base, vista, write_event_test, write_test

__all__ = ["base", "vista"]


def test_the_markdown_has_both_tables(base: Path, vista: Path) -> None:
    text = markdown([read_run(base), read_run(vista)])
    assert "| vista | 90.0 | **50.0** | **50.0** | 75.0 | 0.875 | +25.0 |" in text
    assert "| run | temporal | all |" in text
    assert all(line.count("|") in (0, 8, 4) for line in text.splitlines())


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
    assert [address for address in page.addresses if not address.startswith(("data:", "#"))] == []
    assert not re.search(r"@import|url\((?!#)", content)
    for text in ("0.875", "hallucinated", "abc123 with local changes", "peft 0.21", "vidpref fit", "late"):
        assert text in page.text
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


def test_the_command_prints_and_writes(
    base: Path, vista: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "views.png"
    picture.write_bytes(b"\x89PNG")
    out = {"--html": tmp_path / "report.html", "--markdown": tmp_path / "report.md", "--title": "A title"}
    main([str(base), str(vista), "--picture", str(picture), *(str(part) for pair in out.items() for part in pair)])
    assert "50.0" in capsys.readouterr().out
    assert "<title>A title</title>" in (tmp_path / "report.html").read_text()
    assert "**50.0**" in (tmp_path / "report.md").read_text()


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


def test_scores_and_percent_stand_on_axes_of_their_own(tmp_path: Path) -> None:
    write_test(tmp_path / "judged" / "test", 0.5)
    path = tmp_path / "judged" / "test" / "results.json"
    results = json.loads(path.read_text())
    results["all"]["average_score"] = 2.5
    ends = {"all/accuracy": [0.4, 0.6], "all/average_score": [2.0, 3.0]}
    path.write_text(json.dumps(results | {"about": {"intervals": {"of": ends}}}))
    drawn = score_chart([read_run(tmp_path / "judged")])
    assert all(f">{unit}<" in drawn for unit in ("percent", "score"))
