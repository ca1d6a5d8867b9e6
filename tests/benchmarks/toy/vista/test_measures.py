"""Measures of the VistaDPO study on policies whose answers are known: one that sees all, one that says the usual."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.toy.vista.conditions import OF_QUESTIONS, OF_ROWS, Condition, conditions
from benchmarks.toy.vista.measures import (
    FACTS,
    auc,
    gaps,
    measure_all,
    report_question,
    says,
    stated_facts,
    verdicts,
    yes_no,
)
from benchmarks.toy.vista.videos import ToyVideo, read_videos
from datamodules.prepare.toy import prepare_toy
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.toy_world.questions import OPPOSITE, Claim, is_usual, parse_claim, parse_verdict, reply
from datamodules.toy_world.render import DIRECTIONS, PLACES, USUAL_GROUPS
from datamodules.toy_world.rows import sentence
from datamodules.vista.samples import AnswerScores, View
from tests.datamodules.toy_world.test_toy_world import seen


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[ToyVideo]:
    folder = tmp_path_factory.mktemp("videos")
    prepare_toy(str(folder / "test"), "val", num_videos=24, prior=0.5)
    return read_videos(folder / "test.index.json", num_frames=4)


def usual_of(claim: Claim) -> Claim:
    """The claim with every fact as usual."""
    group = next(index for index, colors in enumerate(USUAL_GROUPS) if claim.thing.color in colors)
    usual = replace(claim, direction=DIRECTIONS[group], place=PLACES[group])
    return usual if is_usual(usual, "temporal") else replace(usual, order=OPPOSITE[str(usual.order)])


class Answerer:
    """A policy that answers from a claim about the view: what is seen in it, or what is usual."""

    def __init__(self, videos: Sequence[ToyVideo], sees: bool) -> None:
        self.sees = sees
        self.truths = {video.original.frames.numpy().tobytes(): video.truth for video in videos}

    def claim(self, view: View) -> Claim | None:
        """What it believes of the event that the question, or its first answer, is about."""
        about = parse_claim(view.answers.get("chosen", ""))
        shown = [claim for claim in seen(view.frames) if claim.other is not None]
        named = [claim for claim in shown if str(claim.thing) in view.prompt]
        # A question about order names both things, the one that it is about first.
        thing = min(named, key=lambda claim: view.prompt.index(str(claim.thing)), default=None)
        claim = thing or next((claim for claim in shown if about and claim.thing == about.thing), None)
        return claim if self.sees or claim is None else usual_of(claim)

    def encode(self, views: Sequence[View]) -> Sequence[View]:
        return views

    def score(self, views: Sequence[View]) -> AnswerScores:
        scores = [-float(self.wrong(view, text)) for view in views for text in view.answers.values()]
        return AnswerScores(torch.tensor(scores), torch.ones(len(scores), dtype=torch.long))

    def wrong(self, view: View, answer: str) -> int:
        """How many facts of the answer are not as it believes."""
        claim, stated = self.claim(view), parse_claim(answer)
        if stated is None:
            return int(answer.startswith("Yes") != self.agrees(view, claim))
        if claim is None:
            return 4
        return sum(getattr(claim, name) != getattr(stated, name) for name in ("thing", "direction", "place", "order"))

    def agrees(self, view: View, claim: Claim | None) -> bool:
        """Whether a yes-or-no question suggests what it believes."""
        if view.prompt.startswith("Is there"):
            return any(str(shown.thing) in view.prompt for shown in seen(view.frames))
        words = view.prompt.split("?")[0].split()
        return claim is not None and any(getattr(claim, name) in words for name in FACTS.values())

    def generate(self, prompts: Sequence[str], frames: Sequence[Tensor], max_new_tokens: int) -> list[str]:
        views = [View(0, "original", video, text, {}) for text, video in zip(prompts, frames, strict=True)]
        replies = []
        for view in views:
            claim = self.claim(view)
            is_report = view.prompt.startswith("What")
            yes = "Yes." if not is_report and self.agrees(view, claim) else "No."
            replies.append(sentence(str(claim)) if is_report else yes)
        return replies


def test_who_sees_all_says_all_and_who_has_a_prior_alone_says_the_usual(videos: list[ToyVideo]) -> None:
    sees, blind = (measure_all(Answerer(videos, sees), videos) for sees in (True, False))  # type: ignore[arg-type]
    for name in ("stated", "stated_usual", "stated_counter", "reports_counter", "says_usual", "says_counter",
                 "overall", "overall_usual", "overall_counter", "auc_usual", "auc_counter", "basic"):  # fmt: skip
        assert sees[name] == 1, name
    assert (blind["stated_usual"], blind["stated_counter"], blind["reports_counter"]) == (1, 0, 0)
    assert (blind["says_usual"], blind["says_counter"]) == (1, 0)
    assert (blind["overall_usual"], blind["overall_counter"]) == (1, 0)
    assert (blind["auc_usual"], blind["auc_counter"]) == (1, 0)
    usual = np.mean([bool(is_usual(video.truth, subset)) for video in videos for subset in FACTS])
    assert blind["stated"] == pytest.approx(usual)


def test_gaps_are_of_the_right_view_to_its_negative(videos: list[ToyVideo]) -> None:
    seeing = gaps(Answerer(videos, True), videos)  # type: ignore[arg-type]
    # Reversed, direction and order are wrong: two of the facts, one nat each.
    assert (seeing["gap_reversed"], seeing["above_reversed"]) == (2, 1)
    assert seeing["above_rejected"] == 1
    assert set(seeing) >= {f"gap_{name}" for name in ("shuffled", "other", "clip", "moved")}
    blind = gaps(Answerer(videos, False), videos)  # type: ignore[arg-type]
    assert blind["gap_reversed"] < 2


def test_a_reply_that_states_no_claim_states_no_fact(videos: list[ToyVideo]) -> None:
    silent = Answerer(videos, True)
    silent.generate = lambda prompts, frames, max_new_tokens: ["The the the."] * len(prompts)  # type: ignore[method-assign]
    assert set(stated_facts(silent, videos).values()) == {0.0}  # type: ignore[arg-type]
    assert yes_no(silent, videos)["overall"] == 0  # type: ignore[arg-type]
    assert says(silent, videos)["says"] == 1  # type: ignore[arg-type]


def test_reports_are_asked_for_by_thing(videos: list[ToyVideo]) -> None:
    assert report_question(videos[0].truth) == f"What does the {videos[0].truth.thing} do?"


def test_videos_without_counter_prior_facts_are_refused(videos: list[ToyVideo]) -> None:
    usual = [video for video in videos if video.truth == usual_of(video.truth)]
    with pytest.raises(ValueError, match="no fact of one kind"):
        says(Answerer(usual, True), usual)  # type: ignore[arg-type]


def test_auc_counts_ties_one_half() -> None:
    assert auc(np.array([1.0, 2.0]), np.array([1.0, 0.0])) == 0.875


ROWS = dict.fromkeys(OF_ROWS, 1.0)
QUESTIONS = {"auc_usual": 0.99, "auc_counter": 0.05}


def test_conditions_hold_within_their_bounds_and_name_the_one_that_fails() -> None:
    assert all(condition.holds for condition in conditions(ROWS, QUESTIONS, {"place": 0.1}))
    for name, value in (("gap_reversed", 2.51), ("gap_moved", 2.6), ("above_reversed", 0.9)):
        failed = [item.name for item in conditions(ROWS | {name: value}, QUESTIONS, {}) if not item.holds]
        assert failed == [OF_ROWS[name][0]]
    for name, value in (("auc_usual", 0.95), ("auc_counter", 0.3)):
        failed = [item.name for item in conditions(ROWS, QUESTIONS | {name: value}, {}) if not item.holds]
        assert failed == [OF_QUESTIONS[name][0]]


def test_a_condition_without_bounds_stops_nothing() -> None:
    assert Condition("probe", 0.0).holds
    assert Condition("probe", 0.0).bound == "printed only"
    assert Condition("gap", 1.0, None, 2.5).bound == "at most 2.5"


def test_other_shards_are_refused(tmp_path: Path) -> None:
    prepare_toy(str(tmp_path / "pre"), "pretrain", num_videos=2)
    with pytest.raises(ValueError, match=r"lacks|states no claim"):
        read_videos(tmp_path / "pre.index.json", 4)


class Reasoner(Answerer):
    """Answers yes-or-no questions by what it believes, and a verdict that follows from it, or never does."""

    def __init__(self, videos: Sequence[ToyVideo], sees: bool, follows: bool = True, facts_first: bool = True) -> None:
        super().__init__(videos, sees)
        self.follows, self.facts_first = follows, facts_first

    def generate(self, prompts: Sequence[str], frames: Sequence[Tensor], max_new_tokens: int) -> list[str]:
        views = [View(0, "original", video, text, {}) for text, video in zip(prompts, frames, strict=True)]
        claims = [self.claim(view) for view in views]
        return [
            reply("yes" if self.agrees(view, claim) is self.follows else "no", claim, self.facts_first)
            for view, claim in zip(views, claims, strict=True)
            if claim is not None
        ]


@pytest.mark.parametrize("facts_first", [True, False])
def test_verdicts_of_sentences_are_read_in_either_order(videos: list[ToyVideo], facts_first: bool) -> None:
    def of(sees: bool, follows: bool = True) -> dict[str, float]:
        return verdicts(Reasoner(videos, sees, follows, facts_first), videos)  # type: ignore[arg-type]

    assert of(sees=True) == {"verdict": 1, "verdict_usual": 1, "verdict_counter": 1, "tied": 1}
    blind = of(sees=False)
    assert (blind["verdict_usual"], blind["verdict_counter"], blind["tied"]) == (1, 0, 1)
    # Facts stated rightly, and a verdict that does not follow from them.
    assert of(sees=True, follows=False) == {"verdict": 0, "verdict_usual": 0, "verdict_counter": 0, "tied": 0}
    silent = Answerer(videos, True)
    silent.generate = lambda prompts, frames, max_new_tokens: ["The the the."] * len(prompts)  # type: ignore[method-assign]
    assert verdicts(silent, videos) == {"verdict": 0, "verdict_usual": 0, "verdict_counter": 0}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "verdict"),
    [("Yes, the red circle moves.", "yes"), ("The red circle moves: no.", "no"), ("The circle.", None), ("", None)],
)
def test_a_verdict_is_the_first_word_or_the_last(text: str, verdict: str | None) -> None:
    assert parse_verdict(text) == verdict


def test_facts_come_first_in_preference_rows_that_are_made_so(tmp_path: Path) -> None:
    rows = {}
    for name, facts_first in (("usual", False), ("facts", True)):
        prepare_toy(str(tmp_path / name), "train", num_videos=8, facts_first=facts_first)
        reader = SampleReader(Index.read(tmp_path / f"{name}.index.json"))
        rows[name] = [json.loads(reader.read(position, ["json"])["json"]) for position in range(8)]
    for before, after in zip(rows["usual"], rows["facts"], strict=True):
        assert before["question"] == after["question"]
        for answer in ("chosen", "rejected", "irrelevant"):
            verdict, claim = parse_verdict(before[answer]), parse_claim(before[answer])
            assert claim is not None
            assert verdict is not None
            assert before[answer] == reply(verdict, claim)
            assert after[answer] == reply(verdict, claim, facts_first=True)
