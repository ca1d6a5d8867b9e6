"""The labelling page in a real Chromium: by keys, across reloads, a kill and two annotators, up to a fit."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import vidpref
from benchmarks.labelling.label_file import LabelFile
from benchmarks.labelling.labelling import Labelling
from benchmarks.labelling.pairs import ShownPairs
from datamodules.prepare.labels import Judgement, read_judgements
from lightning_modules.policies.wan import WanPolicy
from tests.support.command_runs import run_fit, steps
from tests.support.flow_shards import write_labels
from tests.support.judged_pairs import read_labels, write_judged_pairs
from tests.support.labelling import label_server
from tests.support.paths import ROOT
from tests.support.tiny_wan import TEXT_WIDTH, write_tiny_wan

playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
pytest.importorskip("uvicorn")
from playwright.sync_api import Browser, Page, expect, sync_playwright  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None, reason="there is no Chromium on this machine (.ci/browser installs it in the CI)"
    ),
]
expect.set_options(timeout=30_000)
KEYS = {"left": "ArrowLeft", "right": "ArrowRight", "tie": "ArrowDown"}
NAMES = {1: "first", -1: "second", 0: "tie"}
OpenPage = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as started:
        # No sandbox: in containers the tests are root. No pages but ours are opened.
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


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


def enter(page: Page, name: str) -> None:
    page.get_by_label("Name").fill(name)
    page.keyboard.press("Enter")


def wait_ready(page: Page) -> None:
    expect(page.locator("#task")).to_have_attribute("data-ready", "true")


def press(page: Page, answer: str, count: int) -> None:
    """Answer by key, and wait until the page has counted it."""
    wait_ready(page)
    page.keyboard.press(KEYS[answer])
    expect(page.locator("#progress-text")).to_contain_text(re.compile(rf"^{count} of"))


def rows(folder: Path) -> list[Judgement]:
    return read_judgements(folder / "labels.csv")


def test_twenty_answers_a_reload_two_annotators_a_kill_and_a_fit(tmp_path: Path, open_page: OpenPage) -> None:
    """The answers, by key in the browser, are what `prepare labels` writes and a dense fit trains on."""
    write_tiny_wan(tmp_path / "tiny")
    space = WanPolicy(str(tmp_path / "tiny")).latent_space
    pairs = write_judged_pairs(tmp_path, count=7, space=space, width=TEXT_WIDTH)
    flags = ("pairs.index.json", "--repeats", "0.2", "--seed", "1")
    planned = Labelling(ShownPairs(pairs), LabelFile(tmp_path / "plan.csv"), repeats=0.2, seed=1)
    questions = planned.questions("Ann")
    answers = ["left", "right", "tie", "left", "left", "right", "right"] * 4
    with label_server(tmp_path, *flags) as server:
        ann = open_page(server.address)
        enter(ann, "Ann")
        for number in range(6):
            press(ann, answers[number], number + 1)
            assert len(rows(tmp_path)) == number + 1, "it is in the file before the next question is shown"
        ann.reload()
        expect(ann.locator("#progress-text")).to_contain_text("6 of")
        bob = open_page(server.address)
        enter(bob, "Ann")
        expect(bob.locator("#join-error")).to_contain_text("Ann is labelling in another window")
        enter(bob, "Bob")
        for number in range(6, 12):
            press(ann, answers[number], number + 1)
            press(bob, "tie", number - 5)
        server.kill()
        with (tmp_path / "labels.csv").open("a") as file:
            file.write("p00,2,fir")  # what a power cut leaves
        wait_ready(ann)
        ann.keyboard.press(KEYS[answers[12]])
        expect(ann.locator("#trouble")).to_contain_text("The server does not answer")
        with label_server(tmp_path, *flags, "--port", server.port) as again:
            assert again.port == server.port, "the address is the same, so the open page goes on"
            assert "the last line was cut short and is removed" in again.log.read_text()
            expect(ann.locator("#progress-text")).to_contain_text("13 of")
            expect(ann.locator("#trouble")).to_be_hidden()
            for number in range(13, len(questions)):
                press(ann, answers[number], number + 1)
            expect(ann.locator("#done")).to_be_visible()
            again.interrupt()
    given = {(row.place, row.repeat): row for row in rows(tmp_path) if row.annotator == "Ann"}
    assert len(given) == len(questions) == sum(row.annotator == "Ann" for row in rows(tmp_path)) > 20
    for question, answer in zip(questions, answers, strict=False):
        row = given[question.place, question.repeat]
        assert (row.label, row.side) == (question.label(answer), question.left)
    assert sum(row.annotator == "Bob" for row in rows(tmp_path)) == 6

    assert vidpref.main(["prepare", "labels", f"{tmp_path}/labels.csv", pairs, f"{tmp_path}/labels"]) == 0
    written = read_labels(tmp_path / "labels.index.json")
    only_ann = {question.place.key for question in questions[9:]} - {question.place.key for question in questions[:8]}
    assert only_ann
    for key in only_ann:
        first = [
            given[question.place, 0].label
            for question in questions
            if question.place.key == key and not question.repeat
        ]
        assert written[key].labels == tuple(first)
    settings = {
        "trainer.default_root_dir": "run",
        "trainer.max_steps": 2,
        "model.policy.path": "tiny",
        "model.policy.dtype": "float32",
        "model.policy.lora": "{r: 4, alpha: 8}",
        "model.policy.prompt_length": 8,
        "data.train": "pairs.index.json",
        "data.train_labels": "labels.index.json",
        "data.num_workers": 0,
        "data.batch_size": 2,
    }
    done = run_fit(tmp_path, f"{ROOT}/configs/dense_dpo/wan_lora.yaml", settings, probe="steps.jsonl")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(steps(tmp_path / "steps.jsonl")) == 2


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    write_judged_pairs(tmp_path, count=3)
    return tmp_path


def video_times(page: Page) -> list[float]:
    times: list[float] = page.evaluate("Array.from(document.querySelectorAll('video'), (video) => video.currentTime)")
    return times


def test_both_videos_loop_the_segment_in_step(labelled: Path, open_page: OpenPage) -> None:
    """Segments are 4 of 13 frames at 4 frames a second: the second one is 1 to 2 s."""
    with label_server(labelled, "pairs.index.json") as server:
        page = open_page(server.address)
        enter(page, "Ann")
        press(page, "left", 1)
        wait_ready(page)
        seen = []
        for _ in range(30):
            page.wait_for_timeout(100)
            seen.append(video_times(page))
        assert all(0.99 <= time <= 2.1 for times in seen for time in times)
        assert max(left for left, _ in seen) > 1.7, "up to the segment's end"
        assert sorted(abs(left - right) for left, right in seen)[len(seen) // 2] < 0.1
        assert sum(later[0] < earlier[0] for earlier, later in pairwise(seen)) >= 2, "it loops"
        page.keyboard.press("s")
        expect(page.locator("#speed")).to_contain_text("Speed ½")
        assert page.evaluate("document.getElementById('left').playbackRate") == 0.5
        page.keyboard.press(" ")
        expect(page.locator("#play")).to_contain_text("Play")
        page.keyboard.press(".")
        page.wait_for_timeout(300)
        before = video_times(page)
        page.keyboard.press(",")
        page.wait_for_timeout(300)
        after = video_times(page)
        assert before[0] == before[1]
        assert after[0] == after[1]
        assert abs(before[0] - after[0]) == pytest.approx(0.25, abs=0.01) or after[0] > 1.75  # or round the loop's end
        page.keyboard.press("w")
        expect(page.locator("#whole")).to_have_attribute("aria-pressed", "true")
        page.wait_for_timeout(300)
        assert video_times(page)[0] < 0.1, "the whole video begins at its beginning"


def test_back_corrects_an_answer_and_later_leaves_one_open(labelled: Path, open_page: OpenPage) -> None:
    with label_server(labelled, "pairs.index.json", "--repeats", "0") as server:
        page = open_page(server.address)
        enter(page, "Ann")
        press(page, "left", 1)
        press(page, "left", 2)
        wait_ready(page)
        page.keyboard.press("Backspace")
        expect(page.locator(".answer.left")).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#timeline [aria-current]")).to_have_accessible_name(
            re.compile("^Segment 2, .* answered left$")
        )
        press(page, "right", 2)
        expect(page.locator("#timeline button").nth(1)).to_have_accessible_name(
            re.compile("^Segment 2, .* answered right$")
        )
        expect(page.locator("#where")).to_contain_text("segment 3 of 3")
        wait_ready(page)
        page.keyboard.press("n")
        expect(page.locator("#where")).to_contain_text("segment 1 of 3")
        press(page, "tie", 3)
        wait_ready(page)
        page.locator("#timeline button").nth(0).click()
        expect(page.locator(".answer.tie")).to_have_attribute("aria-pressed", "true")
        asked = Labelling(ShownPairs(labelled / "pairs.index.json"), LabelFile(labelled / "x.csv"), 0).questions("Ann")
    expected = [asked[0].label("left"), asked[1].label("right"), asked[3].label("tie")]
    assert [(row.place, row.label) for row in rows(labelled)] == [
        (asked[number].place, label) for number, label in zip((0, 1, 3), expected, strict=True)
    ]


def test_a_held_key_answers_once(labelled: Path, open_page: OpenPage) -> None:
    with label_server(labelled, "pairs.index.json") as server:
        page = open_page(server.address)
        enter(page, "Ann")
        wait_ready(page)
        page.keyboard.down("ArrowLeft")
        expect(page.locator("#progress-text")).to_contain_text("1 of")
        for _ in range(5):
            wait_ready(page)
            page.keyboard.down("ArrowLeft")  # repeated by the system while it is held
        page.keyboard.up("ArrowLeft")
        page.wait_for_timeout(300)
    assert len(rows(labelled)) == 1


def test_by_keyboard_alone_to_the_end_and_what_the_page_then_says(labelled: Path, open_page: OpenPage) -> None:
    """Tab and Enter reach every button; whole videos; each question twice, answered by what is seen."""
    with label_server(labelled, "pairs.index.json", "--granularity", "whole", "--repeats", "1") as server:
        page = open_page(server.address)
        page.keyboard.type("Ann")
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Begin")).to_be_focused()
        page.keyboard.press("Enter")
        wait_ready(page)
        expect(page.locator("#where")).to_contain_text("whole video")
        reached = set()
        for _ in range(30):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.dataset.action ?? document.activeElement.tagName"))
        assert reached >= {
            "left",
            "tie",
            "right",
            "back",
            "play",
            "slower",
            "frame-back",
            "frame-on",
            "skip",
            "help",
            "A",
        }
        page.locator(".answer.tie").focus()
        page.keyboard.press("Enter")
        for number in range(1, 6):
            expect(page.locator("#progress-text")).to_contain_text(re.compile(rf"^{number} of 6"))
            press(page, "left" if number == 5 else "tie", number + 1)
        expect(page.locator("#done-title")).to_be_focused()
        expect(page.locator("#done-text")).to_contain_text("6 answers are saved")
        expect(page.locator("#facts")).to_contain_text("asked twice: 2 of 3 answered alike (67%)")
    assert {row.place.segment for row in rows(labelled)} == {None}
    assert Counter(row.repeat for row in rows(labelled)) == {0: 3, 1: 3}


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
