"""The labelling page in a real Chromium: the agreement view, what fits on the screen, and what can be read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.browser import IN_A_BROWSER
from tests.support.flow_shards import write_labels
from tests.support.label_pages import OpenPage, enter, expect, video_times, wait_ready
from tests.support.labelling import label_server

pytestmark = IN_A_BROWSER


def test_the_agreement_view_plays_what_they_disagree_on(labelled: Path, open_page: OpenPage) -> None:
    judge = write_labels(str(labelled / "pairs.index.json"), {"p00": (1, 1, 0), "p01": (0, 0, 0)}, name="judge")
    lines = [
        "p00,0,first,ann",
        "p00,1,second,ann",
        "p00,2,tie,ann",
        "p01,0,tie,ann",
        "p01,1,tie,ann",
        "p01,2,first,ann",
    ]
    (labelled / "labels.csv").write_text("\n".join(["key,segment,label,annotator", *lines]) + "\n")
    with label_server(labelled, "pairs.index.json", "--judges", judge) as server:
        page = open_page(f"{server.address}agreement.html")
        expect(page.locator("#table tbody tr")).to_have_count(1)
        expect(page.locator("#table tbody tr")).to_contain_text("ann and tests667%")
        expect(page.locator(".card")).to_have_count(2)
        expect(page.get_by_role("button", name="they disagree")).to_have_count(2)
        page.keyboard.press("ArrowDown")
        expect(page.locator("#player")).to_have_attribute("data-ready", "p00/1")
        expect(page.locator("#where")).to_contain_text("Pair p00 · 1.0 to 2.0 s · ann: second, tests: first")
        assert all(0.99 <= time <= 2.1 for time in video_times(page))
        page.keyboard.press("ArrowDown")
        expect(page.locator("#player")).to_have_attribute("data-ready", "p01/2")
        page.keyboard.press("ArrowDown")
        expect(page.locator("#player")).to_have_attribute("data-ready", "p00/1")
        page.get_by_label("only disagreements").uncheck()
        page.get_by_role("button", name="Play 0.0 to 1.0 s of pair p01").click()
        expect(page.locator("#player")).to_have_attribute("data-ready", "p01/0")


@pytest.mark.parametrize("width", [1280, 800])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_fits_and_can_be_read(labelled: Path, open_page: OpenPage, width: int, scheme: str) -> None:
    """No sideways scrolling; all answers without scrolling; text against its background as WCAG AA asks (4.5 to 1)."""
    size = {"width": width, "height": 800}
    with label_server(labelled, "pairs.index.json") as server:
        page = open_page(server.address, viewport=size, color_scheme=scheme, reduced_motion="reduce")
        enter(page, "Ann")
        wait_ready(page)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        box = page.locator(".transport").bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 800
        assert page.evaluate("Array.from(document.querySelectorAll('video'), (v) => v.paused)") == [True, True]
        colors = page.evaluate(
            """() => Array.from(document.querySelectorAll('button, p, h1, h2, a, figcaption, .time'))
                .filter((element) => element.offsetParent && element.textContent.trim())
                .map((element) => {
                    let behind = element;
                    const clear = 'rgba(0, 0, 0, 0)';
                    while (getComputedStyle(behind).backgroundColor === clear) behind = behind.parentElement;
                    return [element.className + element.textContent, getComputedStyle(element).color,
                            getComputedStyle(behind).backgroundColor];
                })"""
        )
    assert len(colors) > 15
    assert [name for name, ink, paper in colors if contrast(ink, paper) < 4.5] == []


def contrast(first: str, second: str) -> float:
    """The contrast of two CSS colours by WCAG 2."""
    lights = sorted((luminance(color) for color in (first, second)), reverse=True)
    return (lights[0] + 0.05) / (lights[1] + 0.05)


def luminance(color: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
