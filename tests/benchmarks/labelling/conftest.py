"""Pages of the browser for the tests of the labelling page, and pairs to label."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.judged_pairs import write_judged_pairs

if TYPE_CHECKING:  # where playwright is not installed, the other tests of this folder run
    from playwright.sync_api import Browser, Page

    from tests.support.label_pages import OpenPage


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """A page in a profile of its own; at the end no script has failed and nothing was asked of another machine."""
    pages: list[Page] = []
    faults: list[str] = []

    def opened(address: str, **settings: object) -> Page:
        page = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **settings}).new_page()
        page.on("pageerror", lambda error: faults.append(f"script: {error}"))
        page.on("console", lambda line: faults.append(line.text) if "Security Policy" in line.text else None)
        page.on("request", lambda request: strangers(request.url))
        page.goto(address)
        pages.append(page)
        return page

    def strangers(url: str) -> None:
        if not url.startswith(("http://127.0.0.1:", "data:,")):
            faults.append(f"asked {url}")

    yield opened
    for page in pages:
        page.context.close()
    assert faults == []


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A folder with three pairs of three segments, to be labelled."""
    write_judged_pairs(tmp_path, count=3)
    return tmp_path
