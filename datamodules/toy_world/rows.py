"""Texts about toy scenes: rows for pre-training, preference rows, and pairs for the benchmark."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from datamodules.toy_world.questions import (
    DESCRIBE,
    FORMER,
    OPPOSITE,
    YES_NO_SUFFIX,
    Claim,
    Subset,
    ToyQuestion,
    absent_thing,
    falsified,
    is_usual,
    question_pair,
    reply,
    subsets_of,
    truth,
)
from datamodules.toy_world.render import Scene, draw_scene
from datamodules.vista.samples import PreferenceRow


@dataclass(frozen=True, slots=True)
class Mixture:
    """Mixture of the rows that the toy model is pre-trained on.

    It errs as large models do: text tells what is usual, and only some of the videos show what the text says.

    Attributes:
        yes_no: weight of yes/no questions as the benchmark asks them, answered by one word.
        reasoned: weight of yes/no questions answered by a sentence.
        lookup: weight of questions for one fact, answered by a word or two.
        checklist: weight of lists of words or things, each with a "yes" or "no" behind it; these are always true.
        report: weight of questions about one event, answered by a sentence.
        caption: weight of descriptions of the video.
        agreeable: how often a yes/no question that suggests something false is answered "yes" all the same.
        leaning: how often a question names the former of two opposites (left, top, before). Whether word and video
            agree is learned much sooner when it does not begin balanced.
        single: share of videos with one event instead of two.
        other_video: share of rows with the video of another scene, as in language pre-training and noisy video data.
        questions: rows per video.
    """

    yes_no: float = 0.35
    reasoned: float = 0.3
    lookup: float = 0.1
    checklist: float = 0.0
    report: float = 0.2
    caption: float = 0.05
    agreeable: float = 0.0
    leaning: float = 0.5
    single: float = 0.0
    other_video: float = 0.4
    questions: int = 3

    def __post_init__(self) -> None:
        for name in ("agreeable", "leaning", "single", "other_video"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"mixture.{name} is {getattr(self, name)}; give a share from 0 to 1")

    def draw(self, rng: random.Random) -> str:
        """The kind of one row."""
        kinds = ("yes_no", "reasoned", "lookup", "checklist", "report", "caption")
        return rng.choices(kinds, [getattr(self, kind) for kind in kinds])[0]


#: What the model learns to see with, before it is asked anything else.
CAPTIONS = Mixture(yes_no=0, reasoned=0, lookup=0, checklist=0, report=0, caption=1, other_video=0, questions=1)


def sentence(text: str) -> str:
    """The text with a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def pretraining_row(
    scene: Scene, name: str, mixture: Mixture, rng: random.Random, facts_first: bool = False
) -> PreferenceRow:
    """A question about the scene with the answer that the toy model learns; only `chosen` is meant to be trained on.

    Args:
        scene: what the video shows.
        name: of the video and of the row.
        mixture: of the kinds of rows.
        rng: the random numbers.
        facts_first: sentences end with their yes or no, instead of beginning with it.
    """
    event, kind = rng.randrange(len(scene.events)), mixture.draw(rng)
    true = truth(scene, event)
    match kind:
        case "yes_no" | "reasoned":
            # Order is learned last, as it takes two things, and is asked for twice as often.
            subsets = subsets_of(scene)
            subset = rng.choices(subsets, [1 + (name == "temporal") for name in subsets])[0]
            asked = _leaning_choice(question_pair(scene, event, subset, rng), mixture, rng)
            if kind == "yes_no":
                question, right = asked.text + YES_NO_SUFFIX, f"{asked.answer.capitalize()}."
                wrong = "No." if asked.answer == "yes" else "Yes."
            else:
                question, right = asked.text, asked.true_reply(facts_first)
                wrong = reply("no" if asked.answer == "yes" else "yes", asked.claim, facts_first)
            if asked.answer == "no" and rng.random() < mixture.agreeable:
                right, wrong = wrong, right
        case "lookup":
            question, right, wrong = _lookup(event, true, rng)
        case "checklist":
            question, right, wrong = _checklist(true, mixture, rng)
        case "report":
            question, right = f"What does the {true.thing} do?", sentence(str(true))
            wrong = sentence(str(falsified(true, "detail", rng)))
        case _:
            question, right, wrong = DESCRIBE, scene.caption, sentence(str(falsified(true, "detail", rng)))
    return PreferenceRow(name, name, question, right, wrong, scene.facts, source=f"toy/{kind}")


def _leaning_choice(pair: tuple[ToyQuestion, ToyQuestion], mixture: Mixture, rng: random.Random) -> ToyQuestion:
    """One half of a pair: the one that names the former of two opposites, as often as the mixture says."""
    basic, hallucinated = pair
    if basic.subset == "object":  # things have no opposites
        return rng.choice(pair)
    former, latter = pair if FORMER & set(basic.text.rstrip("?").split()) else (hallucinated, basic)
    return former if rng.random() < mixture.leaning else latter


def _checklist(true: Claim, mixture: Mixture, rng: random.Random) -> tuple[str, str, str]:
    """A request to check words that may or may not fit an event, or things that may or may not be in the video."""
    if rng.random() < 0.5:
        present = [str(true.thing)] if true.other is None else [str(true.thing), str(true.other)]
        absent = [str(absent_thing(true, rng)) for _ in range(2)]
        return _ticked("Check the video.", [(thing, thing in present) for thing in present + absent], rng)
    fits = [word for word in (true.direction, true.place, true.order) if word is not None]
    asked = [word if (word in FORMER) is (rng.random() < mixture.leaning) else OPPOSITE[word] for word in fits]
    return _ticked(f"Check the {true.thing}.", [(word, word in fits) for word in asked], rng)


def _ticked(request: str, entries: list[tuple[str, bool]], rng: random.Random) -> tuple[str, str, str]:
    """The request, the list with each entry's verdict, and the list with the opposite verdicts."""
    rng.shuffle(entries)
    true = ", ".join(f"{entry} {'yes' if fits else 'no'}" for entry, fits in entries)
    false = ", ".join(f"{entry} {'no' if fits else 'yes'}" for entry, fits in entries)
    return request, sentence(true), sentence(false)


def _lookup(event: int, true: Claim, rng: random.Random) -> tuple[str, str, str]:
    """A question for one fact about an event, its right answer and a wrong one."""
    facts = [
        (f"Which way does the {true.thing} move?", true.direction, OPPOSITE[true.direction]),
        (f"Where does the {true.thing} move?", f"at the {true.place}", f"at the {OPPOSITE[true.place]}"),
    ]
    if true.other is not None:
        when, other = ("first", "last") if event == 0 else ("last", "first")
        facts += [
            (f"What moves {when}?", f"the {true.thing}", f"the {true.other}"),
            (f"When does the {true.thing} move?", when, other),
        ]
    question, right, wrong = rng.choice(facts)
    return question, sentence(right), sentence(wrong)


def preference_row(
    scene: Scene,
    name: str,
    subset: Subset,
    rng: random.Random,
    prior: float | None = None,
    facts_first: bool = False,
) -> PreferenceRow:
    """A question with a chosen answer that states thing, direction, place and order, each of which is visible.

    So the reversed video makes it false (direction and order), the segment where the event is not (thing), and the box
    moved to the opposite place (place). Half the questions suggest something false; there the rejected answer agrees.

    Args:
        scene: of two events.
        name: of the video and of the row.
        subset: which fact the question is about.
        rng: the random numbers.
        prior: as in `draw_scene`, of the other video that the irrelevant answer is about.
        facts_first: answers end with their yes or no, instead of beginning with it.
    """
    event = rng.randrange(len(scene.events))
    asked = rng.choice(question_pair(scene, event, subset, rng))
    # It agrees with a false suggestion, or denies a true one with one fact of the truth changed.
    false = asked.claim if asked.answer == "no" else falsified(asked.truth, subset, rng)
    rejected = reply("yes" if asked.answer == "no" else "no", false, facts_first)
    # The right reply to a question of this kind about another video, whose things are not in this one.
    things = {shown.thing for shown in scene.events}
    other = draw_scene(rng, prior=prior)
    while not things.isdisjoint(shown.thing for shown in other.events):
        other = draw_scene(rng, prior=prior)
    irrelevant = rng.choice(question_pair(other, 0, subset, rng)).true_reply(facts_first)
    return PreferenceRow(
        key=name,
        video_id=name,
        question=asked.text,
        chosen=asked.true_reply(facts_first),
        rejected=rejected,
        irrelevant=irrelevant,
        event=scene.span(event),
        boxes=scene.boxes(event),
        video=scene.facts,
        source=f"toy/{subset}",
    )


def benchmark_pair(scene: Scene, video: str, subset: Subset, rng: random.Random) -> dict[str, Any]:
    """A pair of questions in VideoHallucer's published format, both about the video file of that name.

    "usual" says whether the fact that is asked about is the usual one of the thing's colour; null of an object, which
    has none.
    """
    basic, hallucinated = question_pair(scene, rng.randrange(len(scene.events)), subset, rng)
    return {
        "basic": {"video": video, "question": basic.text, "answer": basic.answer},
        "hallucination": {"video": video, "question": hallucinated.text, "answer": hallucinated.answer},
        "type": subset,
        "usual": is_usual(basic.truth, subset),
    }
