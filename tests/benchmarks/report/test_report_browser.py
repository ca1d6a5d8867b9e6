"""The report's page in a real Chromium: on a desk and on a phone nothing leaves the screen, and all can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.base.paper_tables import find_row
from benchmarks.report.page import tables, web_page
from benchmarks.report.runs import Run, read_runs
from tests.support.browser import IN_A_BROWSER
from tests.support.report_runs import write_world

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = IN_A_BROWSER

#: What reaches over the page's right edge, but for what lies in a table's own scroller.
_OUTSIDE = """
Array.from(document.querySelectorAll("body *"))
    .filter((element) => !element.closest(".scroll table, svg"))
    .filter((element) => element.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5)
    .map((element) => element.outerHTML.slice(0, 80))
"""
#: Every scroller, moved to its end: whether it has to scroll, where its names and its last column are.
_SCROLLED = """
Array.from(document.querySelectorAll(".scroll")).map((scroller) => {
    scroller.scrollLeft = scroller.scrollWidth;
    const edge = scroller.getBoundingClientRect();
    const [row] = scroller.querySelectorAll("tbody tr");
    const [first, last] = [row.firstElementChild, row.lastElementChild].map((cell) => cell.getBoundingClientRect());
    return {
        scrolls: scroller.scrollWidth > scroller.clientWidth,
        name: first.left - edge.left, end: edge.right - last.right,
    };
})
"""
_LETTERS = 'Array.from(document.querySelectorAll("svg text"), (text) => text.getBoundingClientRect().height)'


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    return read_runs(write_world(tmp_path_factory.mktemp("world")))


@pytest.fixture(scope="module")
def address(runs: list[Run], tmp_path_factory: pytest.TempPathFactory) -> str:
    page = tmp_path_factory.mktemp("page") / "report.html"
    paper = [find_row("dense_dpo/table1/DenseDPO"), find_row("vista_dpo/table1/Video-LLaVA + VistaDPO")]
    page.write_text(web_page(runs, paper=paper), encoding="utf-8")
    return page.as_uri()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_tables_and_charts_are_on_the_page_and_within_it(
    browser: Browser, runs: list[Run], address: str, width: int, scheme: Any
) -> None:
    asked: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(address)
    assert asked == [address], "the page is one file"
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(_OUTSIDE) == []

    shown = tables(runs)
    benchmarks = {f"{name}, with intervals" for name in ("VideoHallucer", "MVBench", "Video-ChatGPT", "VBench")}
    assert benchmarks < set(shown)
    headings = page.locator("h2").all_text_contents()
    assert headings[-3:] == ["Scores", "Loss of every term", "How this was made"]
    assert benchmarks < set(headings)
    assert page.locator("table").count() == len(shown) == len(headings) - 3 + 1, "the first table has a text over it"
    for heading, table in shown.items():
        if heading in headings:
            rows = page.locator(f'h2:text-is("{heading}") + .scroll tbody tr')
            assert rows.count() == len(table.rows)
            assert rows.first.is_visible()
    assert page.locator("figure svg").count() == 9, "four benchmarks and five terms"

    scrolled = page.evaluate(_SCROLLED)
    assert any(table["scrolls"] for table in scrolled) or width > 390
    for table in scrolled:
        assert abs(table["name"]) < 1, "the names stay at the left edge"
        assert abs(table["end"]) < 1, "the last column is reached"
    assert min(page.evaluate(_LETTERS)) > 8, "pixels"
    page.close()
