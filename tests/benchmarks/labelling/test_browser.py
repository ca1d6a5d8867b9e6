"""The labelling page in a real Chromium: by keys, across reloads, a kill and two annotators, up to a fit."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

import vidpref
from benchmarks.labelling.label_file import LabelFile
from benchmarks.labelling.labelling import Labelling
from benchmarks.labelling.pairs import ShownPairs
from lightning_modules.policies.wan import WanPolicy
from tests.support.browser import IN_A_BROWSER
from tests.support.command_runs import run_fit, steps
from tests.support.judged_pairs import read_labels, write_judged_pairs
from tests.support.label_pages import OpenPage, enter, expect, press, rows, video_times, wait_ready
from tests.support.labelling import label_server
from tests.support.paths import ROOT
from tests.support.tiny_wan import TEXT_WIDTH, write_tiny_wan

pytestmark = IN_A_BROWSER


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
        ann.keyboard.press("ArrowRight")
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
    fit_on_labels(tmp_path)


def fit_on_labels(folder: Path) -> None:
    """Two steps of the dense fit."""
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
    done = run_fit(folder, f"{ROOT}/configs/dense_dpo/wan_lora.yaml", settings, probe="steps.jsonl")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(steps(folder / "steps.jsonl")) == 2


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
        page.locator("#timeline button").nth(0).focus()
        page.keyboard.press("Enter")
        expect(page.locator(".answer.tie")).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#timeline button").nth(0)).to_be_focused()
        asked = Labelling(ShownPairs(labelled / "pairs.index.json"), LabelFile(labelled / "x.csv"), 0).questions("Ann")
    expected = [asked[0].label("left"), asked[1].label("right"), asked[3].label("tie")]
    assert [(row.place, row.label) for row in rows(labelled)] == [
        (asked[number].place, label) for number, label in zip((0, 1, 3), expected, strict=True)
    ]


def test_a_video_that_was_altered_is_named_and_passed_over(labelled: Path, open_page: OpenPage) -> None:
    pairs = ShownPairs(labelled / "pairs.index.json")
    asked = Labelling(pairs, LabelFile(labelled / "x.csv"), 0).questions("Ann")
    position, left = asked[0].position, asked[0].left
    member = pairs.index.entries[position].members[f"{left}.mp4"]
    shard = Path(pairs.index.address(position))
    content = bytearray(shard.read_bytes())
    content[member.offset + 100] ^= 1
    shard.write_bytes(bytes(content))
    with label_server(labelled, "pairs.index.json", "--repeats", "0") as server:
        page = open_page(server.address)
        enter(page, "Ann")
        expect(page.locator("#video-error")).to_contain_text(f"Left video: {shard.name}: sample '{asked[0].place.key}'")
        expect(page.locator("#video-error")).to_contain_text("was altered, checksums differ. Press N")
        page.keyboard.press("ArrowLeft")  # nothing to judge: no answer is taken
        for number in (1, 2):
            page.keyboard.press("n")
            expect(page.locator("#where")).to_contain_text(f"segment {number + 1} of 3")
            expect(page.locator("#video-error")).to_be_visible()
        page.keyboard.press("n")
        press(page, "left", 1)
        expect(page.locator("#video-error")).to_be_hidden()
    assert [row.place.key for row in rows(labelled)] == [asked[3].place.key]


def test_a_duplicated_tab_is_another_window(labelled: Path, open_page: OpenPage) -> None:
    """It gets a copy of the first tab's session storage, in which its identity must not be."""
    with label_server(labelled, "pairs.index.json") as server:
        page = open_page(server.address)
        page.evaluate("sessionStorage.setItem('copied', 'yes')")
        enter(page, "Ann")
        wait_ready(page)
        with page.context.expect_page() as opened:
            page.evaluate("void window.open(location.href)")
        assert opened.value.evaluate("sessionStorage.getItem('copied')") == "yes"
        enter(opened.value, "Ann")
        expect(opened.value.locator("#join-error")).to_contain_text("Ann is labelling in another window")
        opened.value.close()
        press(page, "left", 1)


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
