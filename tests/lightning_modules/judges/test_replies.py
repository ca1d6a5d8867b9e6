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
    ("reply", "verdict"),
    [
        ("Answer: first. The second flickers.", "first"),
        ("Answer: second. The first one melts in frame 2.", "second"),
        ("Final answer: first. In the second, the hand has six fingers. The colours are alike.", "first"),
        ("Verdict: tie. The first flickers, the second melts.", "tie"),
        ("Verdict: first! The second video warps or melts; its sky is static.", "first"),
        ("Verdict: first; the second melts", "first"),
        ("Answer: first. The first is sharper than the second.", "first"),
        ("**Answer: 1.** The second flickers.", "first"),
        ("I would choose the first video. The second flickers.", "first"),
        ('{"verdict": "first. The second flickers."}', "first"),
        ('{"verdict": "first"}\nThe second is smoother, but its hand melts.', "first"),
        ("<answer>first</answer> The second flickers.", "first"),
        ("Verdict: first\n1. The hand is whole.\n2. The second flickers for 2 seconds.", "first"),
        ("Verdict: first\n\nThe first is better because the second melts.", "first"),
        ("Verdict: first\nBoth are sharp, but the first has better hands.", "first"),
        ("Verdict: second\n\nNo artifacts in the second; people wait at a stop.", "second"),
        ("Verdict: first\nThe second video is not better.", "first"),
        # Taken back: never the verdict that was stated first.
        ("Answer: first. No, the second.", None),
        ("Answer: first. No.", None),
        ("Answer: first. Wait, the first flickers.", None),
        ("Answer: first. Second.", None),
        ("Answer: first. Or the second.", None),
        ("Answer: first. It is actually the second.", None),
        ("Answer: first. On second thought, they are alike.", None),
        ("Answer: first. I mean the other one.", None),
        ("Answer: first. The second is better.", None),
        ("Answer: first. I prefer the second.", None),
        ("Answer: first. The second has fewer faults.", None),
        ("Answer: first. The second does not flicker.", None),
        ("Answer: first. The first is worse.", None),
        ("Answer: first. The first is worse than the second.", None),
        ("Answer: first. Final answer: second.", None),
        ("Answer: first. Both are equal.", None),
        ("Answer: first. The second isn\u2019t flickering.", None),
        ("Answer: first. The choices were first, second or tie.", None),
        ("Answer: first. Tie.", None),
        ("Verdict: first, because the second melts. No, second.", None),
        ("Verdict: first\nNo, the second.", None),
        ("Verdict: first\nThe second is better. The first flickers.", None),
        ("Verdict: first\nHmm, the first flickers.", None),
        ('{"verdict": "first"}\nNo, the second.', None),
        ("<answer>first</answer> Wait, I was wrong.", None),
        (r"\boxed{first} Actually the second.", None),
        # The last word counts.
        ("Verdict: first\nNo, wait.\nSecond.", "second"),
        ("Verdict: first\nThe second is better.", "second"),
        ("Answer: first. No.\nFinal answer: second. The first flickers.", "second"),
    ],
)
def test_what_follows_a_verdict_explains_it_or_takes_it_back(reply: str, verdict: str | None) -> None:
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
