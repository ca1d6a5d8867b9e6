"""Questions about toy scenes: yes/no pairs in the manner of VideoHallucer, preference rows in that of VistaDPO.

Every text comes from the scene's ground truth. A *claim* is a statement about one event; a false claim differs from the
truth in one fact, and the benchmark's four subsets are named after that fact.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace
from typing import Literal, get_args

from datamodules.toy_world.render import COLORS, DIRECTIONS, PLACES, SHAPES, USUAL_GROUPS, Scene, Thing

Subset = Literal["object", "relation", "temporal", "detail"]
SUBSETS: tuple[Subset, ...] = get_args(Subset)
#: What VideoHallucer puts behind every question.
YES_NO_SUFFIX = "\nAnswer the question using 'yes' or 'no'."
DESCRIBE = "Describe the video."
_PAIRS = (("left", "right"), ("top", "bottom"), ("before", "after"))
#: The first of each pair of opposites.
FORMER = frozenset(first for first, _ in _PAIRS)
OPPOSITE = dict(_PAIRS) | {second: first for first, second in _PAIRS}

_COLOR, _SHAPE = "|".join(COLORS), "|".join(SHAPES)
_CLAIM = re.compile(
    rf"[Tt]he (?P<color>{_COLOR}) (?P<shape>{_SHAPE}) moves (?P<direction>left|right) at the (?P<place>top|bottom) "
    rf"(?P<order>before|after) the (?P<other_color>{_COLOR}) (?P<other_shape>{_SHAPE})"
)


@dataclass(frozen=True, slots=True)
class Claim:
    """Claim about one event, which the scene makes true or false.

    Attributes:
        thing: what moves.
        direction: left or right.
        place: top or bottom.
        order: whether before or after the other thing; None in a scene of one event, as is `other`.
        other: what moves in the other event.
    """

    thing: Thing
    direction: str
    place: str
    order: str | None = None
    other: Thing | None = None

    def __str__(self) -> str:
        what = f"the {self.thing} moves {self.direction} at the {self.place}"
        return what if self.other is None else f"{what} {self.order} the {self.other}"


@dataclass(frozen=True, slots=True)
class ToyQuestion:
    """Yes-or-no question about one event of a scene.

    Attributes:
        subset: which fact the question is about.
        text: the question, without the yes/no suffix.
        truth: the true statement about the event.
        claim: the statement the question suggests; equal to `truth` where the answer is yes.
    """

    subset: Subset
    text: str
    truth: Claim
    claim: Claim

    @property
    def answer(self) -> Literal["yes", "no"]:
        """The true answer."""
        return "yes" if self.claim == self.truth else "no"

    def true_reply(self, facts_first: bool = False) -> str:
        """The right answer as a sentence that states thing, direction, place and order; see `reply`."""
        return reply(self.answer, self.truth, facts_first)


def reply(verdict: str, claim: Claim, facts_first: bool = False) -> str:
    """A verdict, "yes" or "no", and the claim that it follows from: "Yes, the red ...", or "The red ...: yes."."""
    text = str(claim)
    return f"{text[0].upper()}{text[1:]}: {verdict}." if facts_first else f"{verdict.capitalize()}, {text}."


def parse_verdict(text: str) -> Literal["yes", "no"] | None:
    """The verdict of a reply in either order; None = it has none."""
    words = re.findall(r"[a-z]+", text.lower())
    for word in (words[0], words[-1]) if words else ():
        if word in ("yes", "no"):
            return "yes" if word == "yes" else "no"
    return None


def parse_claim(text: str) -> Claim | None:
    """The first claim that a text states with thing, direction, place, order and other thing; None = it has none."""
    stated = _CLAIM.search(text)
    if stated is None:
        return None
    thing, other = Thing(stated["color"], stated["shape"]), Thing(stated["other_color"], stated["other_shape"])
    return Claim(thing, stated["direction"], stated["place"], stated["order"], other)


def is_usual(claim: Claim, subset: Subset) -> bool | None:
    """Whether the claim's fact is the usual one of its colours; None of the object, which has no usual one.

    Args:
        claim: about an event of a scene of two things of one group, see `render.USUAL_GROUPS`.
        subset: which fact.
    """
    group = next(index for index, colors in enumerate(USUAL_GROUPS) if claim.thing.color in colors)
    match subset:
        case "relation":
            return claim.place == PLACES[group]
        case "detail":
            return claim.direction == DIRECTIONS[group]
        case "temporal" if claim.other is not None:
            order = USUAL_GROUPS[group].index
            return (order(claim.thing.color) < order(claim.other.color)) == (claim.order == "before")
    return None


def subsets_of(scene: Scene) -> tuple[Subset, ...]:
    """What can be asked about a scene: with one event nothing about the order of two."""
    return tuple(subset for subset in SUBSETS if subset != "temporal" or len(scene.events) == 2)


def truth(scene: Scene, index: int) -> Claim:
    """What is true of one event of a scene."""
    event = scene.events[index]
    if len(scene.events) == 1:
        return Claim(event.thing, event.direction, event.place)
    order = "before" if index == 0 else "after"
    return Claim(event.thing, event.direction, event.place, order, scene.events[1 - index].thing)


def falsified(claim: Claim, subset: Subset, rng: random.Random) -> Claim:
    """The claim with the subset's fact made false."""
    match subset:
        case "object":
            return replace(claim, thing=absent_thing(claim, rng))
        case "relation":
            return replace(claim, place=OPPOSITE[claim.place])
        case "temporal":
            return replace(claim, order=OPPOSITE[str(claim.order)])
        case "detail":
            return replace(claim, direction=OPPOSITE[claim.direction])


def absent_thing(claim: Claim, rng: random.Random) -> Thing:
    """The claim's thing in a colour, or with a shape, that nothing in the scene has."""
    present = [claim.thing] if claim.other is None else [claim.thing, claim.other]
    # Neither thing's: a colour of one with the shape of the other would be as absent, but easily mistaken.
    colors = [color for color in COLORS if color not in {thing.color for thing in present}]
    shapes = [shape for shape in SHAPES if shape not in {thing.shape for thing in present}]
    if rng.random() < 0.5:
        return Thing(rng.choice(colors), claim.thing.shape)
    return Thing(claim.thing.color, rng.choice(shapes))


def question_text(subset: Subset, claim: Claim) -> str:
    """The question to which the claim is the "yes"."""
    match subset:
        case "object":
            return f"Is there a {claim.thing} in the video?"
        case "relation":
            return f"Is the {claim.thing} at the {claim.place}?"
        case "temporal":
            return f"Does the {claim.thing} move {claim.order} the {claim.other}?"
        case "detail":
            return f"Does the {claim.thing} move {claim.direction}?"


def question_pair(scene: Scene, index: int, subset: Subset, rng: random.Random) -> tuple[ToyQuestion, ToyQuestion]:
    """The basic question (answer yes) and the hallucinated one (answer no) about one event."""
    true = truth(scene, index)
    false = falsified(true, subset, rng)
    basic = ToyQuestion(subset, question_text(subset, true), true, true)
    return basic, ToyQuestion(subset, question_text(subset, false), true, false)
