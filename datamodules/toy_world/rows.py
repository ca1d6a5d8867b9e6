"""What is written about toy scenes: rows for pre-training, preference rows, and pairs for the benchmark."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from datamodules.samples import PreferenceRow
from datamodules.toy_world.questions import (
    DESCRIBE,
    IRRELEVANT,
    OPPOSITE,
    YES_NO_SUFFIX,
    Claim,
    Question,
    Subset,
    falsified,
    question_pair,
    subsets_of,
    truth,
)
from datamodules.toy_world.render import Scene


@dataclass(frozen=True, slots=True)
class Mixture:
    """What the toy model is pre-trained on. It errs as large models do because its data is agreeable.

    Attributes:
        yes_no: share of yes/no questions as the benchmark asks them, answered by one word.
        reasoned: share of yes/no questions answered by a sentence.
        lookup: share of questions for one fact, answered by a word or two; the rest are answered by sentences.
        agreeable: how often a question that suggests something false is answered "yes" all the same.
        single: share of videos with one event instead of two.
        questions: rows per video.
    """

    yes_no: float = 0.35
    reasoned: float = 0.15
    lookup: float = 0.3
    agreeable: float = 0.6
    single: float = 0.25
    questions: int = 3


def sentence(text: str) -> str:
    """The text with a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def pretraining_row(scene: Scene, name: str, mixture: Mixture, rng: random.Random) -> PreferenceRow:
    """A question about the scene with the answer that the toy model learns; only `chosen` is meant to be trained on."""
    subset, number = rng.choice(subsets_of(scene)), rng.randrange(len(scene.events))
    shares = (mixture.yes_no, mixture.reasoned, mixture.lookup)
    kind = rng.choices(("yes_no", "reasoned", "lookup", "open"), (*shares, 1 - sum(shares)))[0]
    if kind == "lookup" or kind == "open":
        true = truth(scene, number)
        false = falsified(true, subset, rng)[1]
        question, chosen, other = (_lookup if kind == "lookup" else _open_question)(scene, number, true, false, rng)
    else:
        asked = rng.choice(question_pair(scene, number, subset, rng))
        agrees = asked.answer == "yes" or rng.random() < mixture.agreeable
        replies = ("Yes.", "No.") if kind == "yes_no" else (f"Yes, {asked.claim}.", f"No, {asked.truth}.")
        question = asked.text + (YES_NO_SUFFIX if kind == "yes_no" else "")
        chosen, other = replies if agrees else replies[::-1]
    return PreferenceRow(name, name, question, chosen, other, scene.facts, source=f"toy/{kind}")


def _lookup(scene: Scene, number: int, true: Claim, false: Claim, rng: random.Random) -> tuple[str, str, str]:
    """A question for one fact about an event, its right answer and a wrong one."""
    facts = [
        (f"Which way does the {true.thing} move?", true.direction, OPPOSITE[true.direction]),
        (f"Where does the {true.thing} move?", f"at the {true.place}", f"at the {OPPOSITE[true.place]}"),
    ]
    if true.other is not None:
        when = ("first", "last")[number]
        facts += [
            (f"What moves {when}?", f"the {true.thing}", f"the {true.other}"),
            (f"When does the {true.thing} move?", when, ("last", "first")[number]),
        ]
    question, right, wrong = rng.choice(facts)
    return question, sentence(right), sentence(wrong)


def _open_question(scene: Scene, number: int, true: Claim, false: Claim, rng: random.Random) -> tuple[str, str, str]:
    """A question that a sentence answers, the right one and a wrong one."""
    question, right = rng.choice(((DESCRIBE, scene.caption), (f"What does the {true.thing} do?", sentence(str(true)))))
    return question, right, sentence(str(false))


def preference_row(scene: Scene, name: str, subset: Subset, rng: random.Random) -> PreferenceRow:
    """A question with a chosen answer that states thing, direction, place and order, each of which is visible.

    So the reversed video makes it false (direction and order), the segment where the event is not (thing), and the box
    moved to the opposite place (place). Half the questions suggest something false; there the rejected answer agrees.
    """
    number = rng.randrange(len(scene.events))
    asked = rng.choice(question_pair(scene, number, subset, rng))
    return PreferenceRow(
        key=name,
        video_id=name,
        question=asked.text,
        chosen=asked.true_reply,
        relevant=_false_reply(asked, rng),
        irrelevant=rng.choice(IRRELEVANT),
        event=scene.span(number),
        boxes=scene.boxes(number),
        video=scene.facts,
        source=f"toy/{subset}",
    )


def _false_reply(asked: Question, rng: random.Random) -> str:
    """The wrong answer to the question, with one fact of the truth changed."""
    if asked.answer == "no":
        return f"Yes, {asked.claim}."
    _, false = falsified(asked.truth, asked.subset, rng)
    return f"No, {false}."


def benchmark_pair(scene: Scene, video: str, subset: Subset, rng: random.Random) -> dict[str, Any]:
    """A pair of questions in VideoHallucer's published format, both about the video file of that name."""
    basic, hallucinated = question_pair(scene, rng.randrange(len(scene.events)), subset, rng)
    return {
        "basic": {"video": video, "question": basic.text, "answer": basic.answer},
        "hallucination": {"video": video, "question": hallucinated.text, "answer": hallucinated.answer},
        "type": basic.kind,
    }
