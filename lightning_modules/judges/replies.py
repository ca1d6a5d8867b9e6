"""Reading of a judge's reply: the words without thoughts, and which of two videos it names."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from datamodules.dense.segments import Verdict
from lightning_modules.judges.retractions import SENTENCE_END, retracted

_THOUGHTS = re.compile(r"<think>.*?(?:</think>\s*|\Z)", re.DOTALL | re.IGNORECASE)
#: Some chat templates open the thoughts in the prompt, and the reply has their end alone.
_END_OF_THOUGHTS = re.compile(r"\A.*</think>\s*", re.DOTALL | re.IGNORECASE)
_OBJECT = re.compile(r"\{[^{}]*\}")
#: Fields of a JSON object that hold the verdict, the one that was asked for first.
_FIELDS = ("verdict", "answer", "final_answer", "choice", "preference", "winner")
#: What models put their last word into: <answer>first</answer>, \boxed{first}, \boxed{\text{first}}.
_MARKED = re.compile(r"<answer>(.*?)</answer>|\\boxed\{(?:\\\w+\{)?([^{}]*)\}", re.DOTALL | re.IGNORECASE)
#: "Verdict: ...", "Final answer: ...", "The better video is: ...": what follows is the verdict.
_LABELLED = re.compile(
    r"(?:\bverdict\b[^\w\n]*(?:is\b[^\w\n]*)?"
    r"|\b(?:answer|choice|decision|conclusion|preference|winner|better (?:video|clip|one))[ ]*(?:is\b|[:=])[^\w\n]*)"
    r"([^\n]*)",
    re.IGNORECASE,
)
#: "I would choose the second video.", as the last line, without apostrophes.
_CHOSEN = re.compile(r"\b(?:I|Id|Ill) (?:would |will )?(?:choose|prefer|pick|select)\b([^\n]*)", re.IGNORECASE)
#: Where a verdict ends and its reason begins.
_REASON = re.compile(r"[.,;(\u2013\u2014-]")
#: Behind these words a reason may name the other video: it says why, not which.
_BECAUSE = re.compile(r"\b(?:because|since)\b", re.IGNORECASE)
#: Words that may be beside those of a verdict and say nothing.
_FILLERS = {"the", "video", "clip", "one", "is", "are", "a", "it", "s", "better", "verdict"}
_WORDS: dict[str, Verdict] = {
    "first": "first",
    "1": "first",
    "1st": "first",
    "second": "second",
    "2": "second",
    "2nd": "second",
    "tie": "tie",
    "equal": "tie",
    "neither": "tie",
    "both": "tie",
    "draw": "tie",
}


def spoken(reply: str) -> str:
    """A reply without what the model thought aloud (``<think> ... </think>``); "" where it never came to an answer."""
    return _END_OF_THOUGHTS.sub("", _THOUGHTS.sub("", reply))


def parse_verdict(reply: str) -> Verdict | None:
    r"""Which video a segment judge's reply names; None = it cannot be read.

    Taken is the last JSON object with a verdict, else what is marked as the answer (``<answer>``, ``\boxed``), else
    the last line with a label ("Verdict: ...", "Final answer: ..."), else the last line. It counts where it is the
    verdict alone ("The second video."), or up to where a reason begins, and nothing behind it takes it back: "verdict:
    first is worse" and "the first video has fewer faults than the second" say neither, nor does "Answer: first. No, the
    second."; "Answer: first. The second flickers." says first. What a model thought aloud is left out.
    """
    text = spoken(reply)
    # The last one counts: reasons, and an echo of the question, come before.
    for match in reversed(list(_OBJECT.finditer(text))):
        if (verdict := _in_object(match[0])) and not retracted(_plain(text[match.end() :]), verdict, _WORDS):
            return verdict
    for match in reversed(list(_MARKED.finditer(text))):  # one group of the two forms is empty
        verdict = _in_words(match[1] or match[2] or "")
        if verdict and not retracted(_plain(text[match.end() :]), verdict, _WORDS):
            return verdict
    return _in_words(text)


def _in_object(text: str) -> Verdict | None:
    try:
        fields: dict[str, Any] = {str(name).lower(): value for name, value in json.loads(text).items()}
    except ValueError:
        return None
    value = next((fields[name] for name in _FIELDS if fields.get(name) is not None), None)
    return None if value is None else _leading(str(value))


def _in_words(text: str) -> Verdict | None:
    plain = _plain(text)
    for match in reversed(list(_LABELLED.finditer(plain))):
        if (verdict := _leading(match[1])) and not retracted(plain[match.end() :], verdict, _WORDS):
            return verdict
    lines = [line for line in plain.splitlines() if line.strip()]
    if not lines:
        return None
    chosen = _CHOSEN.search(lines[-1])
    if chosen is None:
        return _alone(_words(lines[-1]))
    verdict = _leading(chosen[1])
    labelled = _LABELLED.search(lines[-1][: chosen.start()])
    before = None if labelled is None else _leading(labelled[1])
    return verdict if before in (None, verdict) else None  # "Answer: first. I prefer the second."


def _plain(text: str) -> str:
    """Without Markdown and quotes, be they straight or curly."""
    return re.sub(r"[*_`#\"'\u2018\u2019\u201c\u201d]", "", text)


def _leading(text: str) -> Verdict | None:
    """The verdict before the reason; None where the text names another one besides, as an echo of the choices does."""
    sentence, *rest = SENTENCE_END.split(text, maxsplit=1)
    named = _BECAUSE.split(sentence)[0]
    verdict = _alone(_words(_REASON.split(named)[0]))
    if verdict is None or any(_WORDS.get(word, verdict) != verdict for word in _words(named)):
        return None
    return None if rest and retracted(rest[0], verdict, _WORDS, same_line=True) else verdict


def _alone(words: Sequence[str]) -> Verdict | None:
    """The verdict that words consist of."""
    named = {_WORDS.get(word) for word in words}
    return named.pop() if len(named) == 1 else None


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"\w+", text.lower()) if word not in _FILLERS]
