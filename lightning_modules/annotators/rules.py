"""Wrong answers by rule: one fact of the right answer is changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np

from datamodules.annotation.phrases import VERB_FORMS, object_phrases
from datamodules.stream.draws import generator
from lightning_modules.annotators.base import AnswerRequest, WrongAnswer, WrongAnswers

Rule = Literal["object", "color", "order", "direction", "number"]
#: One change of an answer: from, to (positions in it), and what takes the place.
Change = tuple[int, int, str]

_COLORS = ("red", "green", "blue", "yellow", "purple", "white", "black", "orange", "brown", "pink", "gray", "golden")
_OTHER_SPELLING = {"grey": "gray"}
_DIRECTIONS = [
    ("left", "right"), ("up", "down"), ("upward", "downward"), ("upwards", "downwards"), ("top", "bottom"),
    ("forward", "backward"), ("forwards", "backwards"), ("towards", "away from"), ("toward", "away from"),
    ("above", "below"), ("clockwise", "counterclockwise"), ("upstairs", "downstairs"), ("into", "out of"),
]  # fmt: skip
_ORDERS = [("before", "after"), ("first", "last"), ("earlier", "later"), ("beginning", "end")]
_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
#: Behind these "left" and "right" are sides, and not the past of leave or a judgement.
_BEFORE_SIDE = {"the", "his", "her", "its", "their", "my", "your", "to", "from", "on", "more", "further", "far"}
_BEHIND_SIDE = {"hand", "side", "arm", "foot", "leg", "eye", "ear", "corner", "half"}


class RuleAnswers(WrongAnswers):
    """Maker of wrong answers that changes one fact of the right one: its object, colour, order, direction or number.

    Of the rules that fit an answer one is drawn by the row's key. An object is replaced by one that the rows of another
    video name. The rules know words, not meanings: a change may leave a sentence that nobody would say, or be true by
    chance (the other object may be in the video, too); `GroundingAnnotator` compares the two answers with the frames.

    Args:
        rules: the facts that may be changed.
        seed: decides which one, and into what.
    """

    without = "no rule fits"

    def __init__(self, rules: list[Rule] | None = None, seed: int = 0) -> None:
        known = get_args(Rule)
        self.rules: list[Rule] = list(known) if rules is None else rules
        if not self.rules or not set(self.rules) <= set(known):
            raise ValueError(f"wrong_answers.rules are {self.rules}; give some of {', '.join(known)}")
        self.seed = seed
        self._objects: dict[str, set[str]] = {}

    @property
    def name(self) -> str:
        """Who proposes."""
        return "rule"

    def settings(self) -> dict[str, Any]:
        """The rules and the seed."""
        return {"rules": self.rules, "seed": self.seed}

    def learn(self, requests: Sequence[AnswerRequest]) -> None:
        """Note the objects that the rows name, by phrase the videos that they are in."""
        self._objects = {}
        for request in requests:
            for phrase in object_phrases(request.chosen):
                self._objects.setdefault(phrase, set()).add(request.video)

    def propose(self, requests: Sequence[AnswerRequest]) -> list[WrongAnswer | None]:
        """A wrong answer a request, None where no rule fits."""
        return [self._proposed(request) for request in requests]

    def _proposed(self, request: AnswerRequest) -> WrongAnswer | None:
        draw = generator(self.seed, request.key, "annotation/rejected")
        changes = {rule: found for rule in self.rules if (found := self._changes(rule, request, draw))}
        if not changes:
            return None
        rule = list(changes)[int(draw.integers(len(changes)))]
        start, end, text = changes[rule][int(draw.integers(len(changes[rule])))]
        if request.chosen[start].isupper():
            text = text[0].upper() + text[1:]
        return WrongAnswer(request.chosen[:start] + text + request.chosen[end:], rule)

    def _changes(self, rule: Rule, request: AnswerRequest, draw: np.random.Generator) -> list[Change]:
        text = request.chosen
        match rule:
            case "object":
                return self._other_objects(request, draw)
            case "color":
                return _other_colors(request, draw)
            case "order":
                return _opposites(text, _ORDERS)
            case "direction":
                return _opposites(text, _DIRECTIONS, _is_side)
            case "number":
                return _other_numbers(text)

    def _other_objects(self, request: AnswerRequest, draw: np.random.Generator) -> list[Change]:
        """The first object of the answer replaced by one of another video, which neither text nor video has."""
        text = request.chosen
        said = f"{request.question} {text}".lower()
        phrases = [match for phrase in object_phrases(text) if (match := _word(phrase).search(text))]
        others = [
            phrase
            for phrase, videos in sorted(self._objects.items())
            if request.video not in videos and not _word(phrase).search(said)
        ]
        if not phrases or not others:
            return []
        return [(*phrases[0].span(), others[int(draw.integers(len(others)))])]


def _word(text: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-]){re.escape(text)}(?![\w-])", re.IGNORECASE)


def _other_colors(request: AnswerRequest, draw: np.random.Generator) -> list[Change]:
    words = re.findall(r"\w+", f"{request.question} {request.chosen}".lower())
    said = {_OTHER_SPELLING.get(word, word) for word in words}
    others = [color for color in _COLORS if color not in said]
    names = "|".join([*_COLORS, *_OTHER_SPELLING])
    # Before a noun, or behind a form of "be": "an orange." is a fruit.
    found = re.finditer(rf"\b({names})(?= [a-z])|(?<=\bis )({names})\b|(?<=\bare )({names})\b", request.chosen, re.I)
    return [(*match.span(), others[int(draw.integers(len(others)))]) for match in found]


def _opposites(
    text: str, pairs: Sequence[tuple[str, str]], fits: Callable[[str, int, int], bool] | None = None
) -> list[Change]:
    """Every word of a pair replaced by the other one of its pair."""
    changes: list[Change] = []
    for former, latter in pairs:
        for word, other in ((former, latter), (latter, former)):
            for match in _word(word).finditer(text):
                known = any(match.start() == start for start, _, _ in changes)  # "away from" has two partners
                if not known and (fits is None or fits(text, *match.span())):
                    changes.append((*match.span(), other))
    return changes


def _is_side(text: str, start: int, end: int) -> bool:
    """Whether a word of direction is one where it is; only left and right may be something else."""
    if text[start:end].lower() not in ("left", "right"):
        return True
    before = re.findall(r"\w+", text[:start].lower())[-1:]
    behind = re.findall(r"\w+", text[end:].lower())[:1]
    return bool(set(before) & (_BEFORE_SIDE | VERB_FORMS) or set(behind) & _BEHIND_SIDE) or not before


def _other_numbers(text: str) -> list[Change]:
    """Every number replaced by its neighbour; not those that are parts of a time, a fraction or a measure."""
    changes: list[Change] = []
    for match in re.finditer(rf"\b({'|'.join(_NUMBERS)})\b", text, re.IGNORECASE):
        place = _NUMBERS.index(match[0].lower())
        changes.append((*match.span(), _NUMBERS[place + 1 if place + 1 < len(_NUMBERS) else place - 1]))
    digits = re.finditer(r"(?<![\d.:,/])\b\d{1,2}\b(?![.:,/]\d|\s*%)", text)
    return changes + [(*match.span(), str(int(match[0]) + 1)) for match in digits]
