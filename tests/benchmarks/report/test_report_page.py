"""The report of several runs: differences, units, marks, and a page that reads on a phone."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks.base.paper_tables import find_row
from benchmarks.report.charts import color_of, in_rows
from benchmarks.report.page import markdown, tables, web_page
from benchmarks.report.runs import Run, read_runs
from benchmarks.report.score_charts import score_chart
from benchmarks.report.score_tables import HEADER, notes
from benchmarks.report.tables import Cell
from tests.support.report_runs import write_run, write_vbench, write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """The runs of `write_world`, which nothing changes."""
    return read_runs(write_world(tmp_path_factory.mktemp("world")))


def row_of(runs: list[Run], benchmark: str, address: str) -> dict[str, str]:
    """Heading -> text of a score's row."""
    table = tables(runs)[f"{benchmark}, with intervals"]
    row = next(row for row in table.rows if row.name == address)
    return dict(zip(table.header[1:], (cell.text for cell in row.cells), strict=True))


def right(*places: int) -> np.ndarray:
    hits = np.zeros((40, 1))
    hits[list(places)] = 1.0
    return hits


def test_a_tuned_run_has_its_difference_with_a_paired_interval(tmp_path: Path) -> None:
    """Ten more of 40 are right and none is lost: whatever is drawn, the difference is not negative."""
    write_run(tmp_path / "base", "MVBench", {"action_count": right(*range(20))})
    write_run(tmp_path / "tuned", "MVBench", {"action_count": right(*range(30))})
    row = row_of(read_runs([tmp_path / "base", tmp_path / "tuned"]), "MVBench", "all/accuracy")
    assert row["unit"] == "%"
    assert (row["base"].split()[0], row["tuned"].split()[0]) == ("50.0", "75.0")
    match = re.fullmatch(r"\+25\.0 \(\+(\d+\.\d) to \+(\d+\.\d)\)", row["tuned minus base"])
    assert match is not None
    low, high = map(float, match.groups())
    error = 196 * (0.25 * 0.75 / 40) ** 0.5
    assert low == pytest.approx(25 - error, abs=2.6)
    assert high == pytest.approx(25 + error, abs=2.6)


def test_runs_that_were_asked_other_questions_have_no_interval_of_their_difference(tmp_path: Path) -> None:
    write_run(tmp_path / "base", "MVBench", {"action_count": right(0)})
    write_run(tmp_path / "tuned", "MVBench", {"action_count": right(0, 1)}, asked="others")
    runs = read_runs([tmp_path / "base", tmp_path / "tuned"])
    assert row_of(runs, "MVBench", "all/accuracy")["tuned minus base"] == "+2.5"
    why = "they were asked other questions, or some were left out of one"
    assert f"tuned: no interval of the difference to base: {why}." in notes(runs)


def test_proxies_merged_numbers_and_totals_of_proxies_are_shown_and_marked(tmp_path: Path) -> None:
    write_vbench(tmp_path / "base", {"dynamic_degree": 0.8, "temporal_flickering": 0.9})
    write_vbench(tmp_path / "raft", {"dynamic_degree": 0.7}, networks={}, marks={}, headlines=["dynamic_degree"])
    runs = read_runs([tmp_path / "base", tmp_path / "raft"])
    paper = [find_row("dense_dpo/table1/DenseDPO")]
    dynamic = row_of(runs, "VBench", "dynamic_degree")
    assert dynamic["base"].endswith("), proxy")
    assert "proxy" not in dynamic["raft"]
    assert dynamic["raft minus base"] == "-", "measured in two ways"
    flow = row_of(runs, "VBench", "mean_flow")
    assert (flow["unit"], flow["base"]) == ("px", "3.46, proxy")
    assert row_of(runs, "VBench", "scene")["base"] == "50.0, merged"
    assert row_of(runs, "VBench", "of_proxies/quality")["base"] == "81.0, of proxies, not VBench's"
    for text in (markdown(runs, paper), re.sub(r"<[^>]*>", "", web_page(runs, paper=paper))):
        for words in ("proxy", "merged", "of proxies, not VBench", "85.38", "a proxy, OpenCV DIS medium"):
            assert words in text
    assert "dynamic_degree (proxy)" in score_chart(runs[:1])


def test_what_several_runs_have_in_common_is_said_once(world: list[Run]) -> None:
    remarks = notes(world)
    prompt = [note for note in remarks if "lmms-eval's prompt" in note]
    assert len(prompt) == 1
    assert prompt[0].startswith("base, dpo, vista: asked with lmms-eval's prompt")
    assert sum("table 1" in note for note in remarks) == 1
    assert len(remarks) == len(set(remarks))


def test_every_column_has_its_unit(world: list[Run]) -> None:
    assert all(re.search(r", (%|0 to 1)$", name) for name in HEADER[1:])
    units = {
        cell
        for table in tables(world).values()
        if "unit" in table.header
        for cell in (r.cells[0].text for r in table.rows)
    }
    assert units == {"%", "px", "0 to 5"}


def test_the_page_reads_on_a_phone(world: list[Run]) -> None:
    """What a browser at 390 px needs: names that stay, charts that shrink and stack, wide tables in scrollers."""
    page = web_page(world)
    assert re.search(r"th:first-child, td:first-child \{[^}]*position: sticky; left: 0;[^}]*background", page)
    assert "@media (max-width: 600px)" in page
    assert "figure svg, figure img { display: block; width: 100%; height: auto; }" in page
    assert page.count("<table>") == page.count('<div class="scroll"><table>')
    widths = [float(width) for width in re.findall(r'<svg [^>]*viewBox="0 0 ([\d.]+) ', page)]
    assert len(widths) == 9, "four benchmarks and five terms, a drawing each"
    assert max(widths) < 330, "points; the page is 390 pixels wide, so that letters keep their size"
    assert "all/<wbr>basic_<wbr>accuracy" in page, "names break behind their signs"


@pytest.mark.parametrize(
    ("count", "rows"), [(1, [1]), (2, [2]), (4, [2, 2]), (5, [3, 2]), (7, [3, 2, 2]), (9, [3, 3, 3])]
)
def test_rows_of_charts_are_full(count: int, rows: list[int]) -> None:
    widths = re.findall(r"--width:([\d.]+)%", in_rows(["<svg/>"] * count, 3))
    assert widths == [f"{100 / size:.2f}" for size in rows for _ in range(size)]
    assert in_rows([], 3) == ""


def test_a_benchmark_has_lines_for_the_runs_that_were_tested_on_it_alone(world: list[Run]) -> None:
    """Three runs, one of them without the benchmark: the chart is as high as for two, and colours stay."""
    vbench = [Run(**{**{name: getattr(run, name) for name in run.__slots__}, "tests": {"VBench": run.tests["VBench"]}})
              if "VBench" in run.tests else Run(**{**{name: getattr(run, name) for name in run.__slots__}, "tests": {}})
              for run in world]  # fmt: skip
    height = re.compile(r'viewBox="0 0 [\d.]+ ([\d.]+)"')
    two = height.findall(score_chart([vbench[0], vbench[2]]))
    assert height.findall(score_chart(vbench)) == two
    assert color_of(2) in score_chart(vbench)
    assert color_of(1) not in score_chart(vbench)


def test_no_two_runs_have_one_colour() -> None:
    colors = [color_of(number) for number in range(40)]
    assert len(set(colors)) == 40
    rgb = np.array([[int(color[start : start + 2], 16) for start in (1, 3, 5)] for color in colors[:12]], dtype=float)
    apart = np.linalg.norm(rgb[:, None] - rgb[None], axis=-1) + 1000 * np.eye(12)
    assert apart.min() > 45, "a dozen are told apart"


def test_a_page_shows_the_interval_and_the_mark_below_the_number() -> None:
    assert (Cell("80.0 (70.0 to 90.0), proxy").number, Cell("80.0 (70.0 to 90.0), proxy").within) == (
        "80.0", " (70.0 to 90.0), proxy"
    )  # fmt: skip
    assert (Cell("50.0, merged").number, Cell("50.0, merged").within) == ("50.0", ", merged")
    assert (Cell("2 of 40").number, Cell("2 of 40").within) == ("2 of 40", "")
