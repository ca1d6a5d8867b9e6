"""The labelling page in a real Chromium, where there is one: what its tests do on it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from datamodules.prepare.judgements import Judgement, read_judgements

pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
pytest.importorskip("uvicorn", reason="the browser tests need the extra `label`")
from playwright.sync_api import Page, expect

#: Opens an address in a new profile; the keywords are Playwright's.
OpenPage = Callable[..., Page]

expect.set_options(timeout=30_000)
_KEYS = {"left": "ArrowLeft", "right": "ArrowRight", "tie": "ArrowDown"}


def enter(page: Page, name: str) -> None:
    page.get_by_label("Name").fill(name)
    page.keyboard.press("Enter")


def wait_ready(page: Page) -> None:
    expect(page.locator("#task")).to_have_attribute("data-ready", "true")


def press(page: Page, answer: str, count: int) -> None:
    """Answer by key, and wait until the page has counted it."""
    wait_ready(page)
    page.keyboard.press(_KEYS[answer])
    expect(page.locator("#progress-text")).to_contain_text(re.compile(rf"^{count} of"))


def rows(folder: Path) -> list[Judgement]:
    return read_judgements(folder / "labels.csv")


def video_times(page: Page) -> list[float]:
    times: list[float] = page.evaluate("Array.from(document.querySelectorAll('video'), (video) => video.currentTime)")
    return times
