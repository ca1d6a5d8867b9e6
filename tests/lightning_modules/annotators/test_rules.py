"""Wrong answers by rule."""

from __future__ import annotations

import pytest

from lightning_modules.annotators.base import AnswerRequest
from lightning_modules.annotators.rules import Rule, RuleAnswers

OTHERS = [AnswerRequest("o", "other.mp4", "What is there?", "There is a wooden spoon.")]


def changed(rule: Rule, chosen: str, question: str = "What happens?") -> str | None:
    maker = RuleAnswers([rule])
    request = AnswerRequest("key", "mine.mp4", question, chosen)
    maker.learn([request, *OTHERS])
    (answer,) = maker.propose([request])
    assert answer is None or (answer.kind, answer.confidence) == (rule, None)
    return None if answer is None else answer.text


@pytest.mark.parametrize(
    ("rule", "chosen", "wrong"),
    [
        ("object", "The dog chases him.", "The wooden spoon chases him."),
        ("order", "He sits down before she leaves.", "He sits down after she leaves."),
        ("order", "First he sits.", "Last he sits."),
        ("direction", "The ball rolls left.", "The ball rolls right."),
        ("direction", "He turns towards her.", "He turns away from her."),
        ("direction", "He turns away from her.", "He turns towards her."),
        ("direction", "It lies at the top.", "It lies at the bottom."),
        ("number", "There are three dogs.", "There are four dogs."),
        ("number", "Ten dogs.", "Nine dogs."),
        ("number", "There are 7 dogs.", "There are 8 dogs."),
    ],
)
def test_one_fact_is_changed(rule: Rule, chosen: str, wrong: str) -> None:
    assert changed(rule, chosen) == wrong


@pytest.mark.parametrize(
    ("rule", "chosen"),
    [
        ("object", "He sits down."),
        ("color", "He eats an orange."),
        ("color", "He sits down."),
        ("order", "He sits down."),
        ("direction", "He left."),
        ("direction", "That answer was right."),
        ("number", "At 3:20 he runs 2.5 km, 40% of it."),
        ("number", "One of them sits."),
    ],
)
def test_what_is_no_such_fact_stays(rule: Rule, chosen: str) -> None:
    assert changed(rule, chosen) is None


def test_a_color_becomes_one_that_neither_text_names() -> None:
    for key in "abcdefgh":
        request = AnswerRequest(key, "v", "Is the hat red, blue or black?", "The hat is grey.")
        (answer,) = RuleAnswers(["color"]).propose([request])
        assert answer is not None
        start, color = answer.text.rsplit(" ", 1)
        assert start == "The hat is"
        assert color.rstrip(".") in {"green", "yellow", "purple", "white", "orange", "brown", "pink", "golden"}


def test_an_object_of_the_same_video_does_not_take_its_place() -> None:
    maker = RuleAnswers(["object"])
    mine = [AnswerRequest(str(i), "mine.mp4", "?", text) for i, text in enumerate(["The dog runs.", "The cat runs."])]
    maker.learn(mine)
    assert maker.propose(mine) == [None, None]


def test_the_rule_is_drawn_by_the_key_and_every_rule_is_drawn() -> None:
    maker = RuleAnswers()
    text = "The red dog turns left before two cats leave."
    requests = [AnswerRequest(f"key-{index}", "mine.mp4", "What happens?", text) for index in range(60)]
    maker.learn([*requests, *OTHERS])
    answers = maker.propose(requests)
    assert maker.propose(requests) == answers, "the same again"
    kinds = [answer.kind for answer in answers if answer is not None]
    assert len(kinds) == 60
    assert {kind: kinds.count(kind) > 4 for kind in set(kinds)} == dict.fromkeys(
        ("object", "color", "order", "direction", "number"), True
    )
    assert all(answer is not None and answer.text != text for answer in answers)


@pytest.mark.parametrize("rules", [[], ["size"]])
def test_rules_that_there_are_not(rules: list[Rule]) -> None:
    with pytest.raises(ValueError, match="give some of object, color, order, direction, number"):
        RuleAnswers(rules)
