"""Whether what a judge says after its verdict takes it back, or only explains it."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: Ends of sentences; a point within a number ends none.
SENTENCE_END = re.compile(r"[.!?;]+(?=\s|$)|\n+")
#: Items of a list, without which "2. The hand melts" would name the second video.
_LIST_MARK = re.compile(r"^\s*(?:[-\u2022+>]|\d+[.)])\s+", re.MULTILINE)
#: "2 fingers" names no video either.
_COUNT = re.compile(r"(?<!video )(?<!clip )\b\d+(?=\s+(?!(?:is|was|has|wins|would|should)\b)[a-z])", re.IGNORECASE)
#: "No, the second", "Wait, ...", "On second thought, ...": whatever comes next, the verdict is no longer meant.
_CORRECTION = re.compile(
    r"^(?:no|nope)\b(?=\W*$|\s*[,:\u2013\u2014-]|\s+(?:wait|sorry|actually|it|its|the (?:first|second|other))\b)"
    r"|^(?:or|wait|actually|correction|sorry|oops|hmm?|scratch|rather|instead|edit)\b"
    r"|\b(?:second thoughts?|i mean|i meant|i was wrong|my mistake|changed? my mind|reconsider\w*|scratch that)\b",
    re.IGNORECASE,
)
#: A sentence with one of these chooses a video.
_CHOICE = re.compile(
    r"\b(?:better|best|wins?|won|winner|superior|preferable|prefer(?:red|s)?|choose|chosen|pick(?:ed)?|select(?:ed)?"
    r"|answer|verdict|decision|choice)\b"
)
_NEGATION = re.compile(r"\b(?:not|no|never|nor|without|can(?:no)?t|wont|(?:do|does|is|are|was|were)nt)\b")
_BLAME = re.compile(rf"{_NEGATION.pattern}|\b(?:worse|worst|inferior|less|fewer)\b")
#: The other video, praised, is no reason for this one.
_PRAISE = re.compile(
    rf"{_CHOICE.pattern}|{_NEGATION.pattern}|\b(?:more|most|less|least|fewer|fewest|too|also|equally|good|great|fine"
    r"|correct|right|perfect|(?:clean|clear|sharp|smooth|steadi|crisp|bright|nic|clos|fin|high|tru)er)\b"
)
#: With a verdict these make no sentence that explains: "it is the second", "and a tie".
_EMPTY = re.compile(
    r"a|an|the|and|or|but|so|i|id|my|in|of|to|is|are|be|it|its|this|that|one|video|clip|not|say|think|actually|correct"
    r"|instead|maybe|perhaps|rather|right|should|would|now|then|yes"
)
#: "Both are sharp, but the first ...": these are no verdict beside another one.
_QUANTITIES = frozenset({"both", "neither", "equal"})


def retracted(rest: str, verdict: str, words: Mapping[str, str], same_line: bool = False) -> bool:
    """Whether a verdict that was stated may not be meant any more.

    A sentence that explains may name the other video, too ("The second flickers."): it has something to say of it, and
    does not choose it.

    Args:
        rest: what follows the verdict, without Markdown, quotes and apostrophes.
        verdict: the verdict.
        words: word -> the verdict that it names.
        same_line: whether it follows on the verdict's own line, where it is read more strictly.
    """
    sentences = SENTENCE_END.split(_LIST_MARK.sub("", rest))
    return any(_CORRECTION.search(text.strip()) or _contradicts(text, verdict, words, same_line) for text in sentences)


def _contradicts(sentence: str, verdict: str, words: Mapping[str, str], strict: bool) -> bool:
    """Whether a sentence names another verdict alone, chooses it, or speaks against the one that was stated."""
    text = (sentence if strict else _COUNT.sub("", sentence)).lower()
    said = re.findall(r"\w+", text)
    named = [word for word in said if word in words]
    if any(words[word] == verdict for word in named):
        named = [word for word in named if word not in _QUANTITIES]
    others = any(words[word] != verdict for word in named)
    if others and all(word in words or _EMPTY.fullmatch(word) for word in said):
        return True
    if not named or not (others or strict):
        return False
    if strict and len({words[word] for word in named}) == len(set(words.values())):
        return True  # an echo of the choices
    chooses = _CHOICE.search(text) is not None
    if words[named[0]] == verdict:  # the subject, as a rule
        return (chooses or strict) and _BLAME.search(text) is not None
    return _PRAISE.search(text) is not None if strict else chooses and _NEGATION.search(text) is None
