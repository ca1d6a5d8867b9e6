"""Verdicts in replies of all kinds."""

from __future__ import annotations

import json

import pytest

from lightning_modules.judges.replies import parse_verdict, spoken
from tests.support.paths import DATA

CASES = json.loads((DATA / "cases/replies/verdicts.json").read_bytes())


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ('The hand melts.\n{"reason": "melting hand", "verdict": "first"}', "first"),
        ('```json\n{"verdict": "second", "reason": "x"}\n```', "second"),
        ('{"Verdict": "Tie"}', "tie"),
        ('{"verdict": "the second video"}', "second"),
        ('{"verdict": 2}', "second"),
        # What came before is corrected by what comes last.
        ('{"verdict": "first"} No, wait: {"verdict": "tie"}', "tie"),
        ("**Verdict:** First", "first"),
        ("verdict: second\nThank you.", "second"),
        ("My verdict is: tie.", "tie"),
        ("Verdict: first, its hand is whole.", "first"),
        ('{"reason": "a {brace}", "verdict": "second"}', "second"),
        ("The first one has a melted arm.\n\nSecond.", "second"),
        ("tie", "tie"),
        ("The second video is better.", "second"),
        ('<think>{"verdict": "first"} or not?</think>{"verdict": "second"}', "second"),
        ("Final verdict: it is a tie - both melt", "tie"),
        ('{"verdict": "both are equal"}', "tie"),
        ("Hm. {'verdict': 'first'} says it all.</think>\nVerdict: second", "second"),
        # Other words for the same, and the last word of models that were trained to mark it.
        ("Answer: first", "first"),
        ("Final answer: tie", "tie"),
        ("The hand melts.\n\n**Final Answer:** second\n\nExplanation: the first one keeps its shape.", "second"),
        ("<answer>first</answer>", "first"),
        ("<answer>\nVerdict: second\n</answer>\nThe first melts.", "second"),
        (r"Thus \boxed{first}", "first"),
        (r"$\boxed{\text{tie}}$", "tie"),
        ("Verdict: first, because the second one melts", "first"),
        ("Answer: second since the first flickers", "second"),
        ('{"answer": "second"}', "second"),
        ("{'answer': 'second'}", "second"),
        ('{"verdict": null, "answer": "tie"}', "tie"),
        ("The better video is: first", "first"),
        ("Both have faults.\nI would choose the second video.", "second"),
        ("I'd prefer the first one, its hand is whole.", "first"),
        # No verdict, or none that is one.
        ("", None),
        ("I cannot help with that.", None),
        ("The first video has fewer faults than the second", None),
        ('{"reason": "...", "verdict": "first|second|tie"}', None),
        ("verdict: first or second", None),
        ("verdict: first, but the second is no worse", None),
        ("verdict: hard to say, the first", None),
        ("Final verdict: First video has melted hands.", None),
        ("My verdict is the first one is worse", None),
        ("verdict: 2 seconds in the hand melts", None),
        ('{"verdict": "the first is worse"}', None),
        ('I lean to {"verdict": "first"}, hm, no</think>\nI cannot tell.', None),
        ('{"verdict": null}', None),
        ('{"reason": "cut short", "verdict": "fir', None),
        ("<think>the first is better, verdict: first", None),
        ("first\nsecond\nthird", None),
        ("Answer: first or second", None),
        ("<answer>first, second or tie</answer>", None),
        (r"\boxed{first|second}", None),
        ("Answer: not the first", None),
        ("The answer is that the first is worse", None),
        ("I would not choose the second video.", None),
        ("I would choose the second video over the first, or the other way round.", None),
        ("I will answer first of all that both melt", None),
        ("The first is better because the second melts, but the second has a better hand", None),
        ("\x00\ud83d nonsense }{", None),
    ],
)
def test_verdicts_are_found_in_replies(reply: str, verdict: str | None) -> None:
    assert parse_verdict(reply) == verdict


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ("  Yes. ", "  Yes. "),
        ("<think>no\n</think>\n\nYes.", "Yes."),
        ("<THINK>a</THINK>b<think>c</think> d", "bd"),
        ("opened in the prompt</think>\nYes.", "Yes."),
        ("<think>a<think>b</think>c</think>Yes.", "Yes."),
        ("<think>cut short", ""),
        ("I think so.", "I think so."),
    ],
)
def test_thoughts_are_not_spoken(reply: str, words: str) -> None:
    assert spoken(reply) == words


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [(reply, None if verdict == "unreadable" else verdict) for verdict, replies in CASES.items() for reply in replies],
)
def test_replies_that_real_judges_gave_are_read(reply: str, verdict: str | None) -> None:
    assert parse_verdict(reply) == verdict
