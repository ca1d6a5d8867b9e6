"""Questions to a judge about descriptions of EventHallusion's videos.

The benchmark's own judge has a text for each split, published without a licence, so that it cannot be part of this
project. The wording here is this project's own, for the same question: accuracies of descriptions are comparable among
its runs, not with published ones, and the results say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_modules.judges.base import JudgeQuestion

#: The remark in the results about the judge's text.
WORDING = (
    "the judge was asked about descriptions in this project's words, not in the authors', which are published "
    "without a licence: compare description accuracies with those of other runs of this project, not with the papers'"
)
SYSTEM = "You check descriptions of videos against what is known to happen in them. You begin with yes or no."
_KNOWN = "What is known to happen in the video: {truth}\n\nA description of the video: {description}\n\n"
#: Split -> the field of "event_info" with which descriptions are compared.
TRUTHS: Mapping[str, str] = {"entire": "caption", "interleave": "unexpected", "misleading": "caption"}
#: Split -> the question.
TEXTS: Mapping[str, str] = {
    "entire": _KNOWN
    + "Does the description tell this event rightly? Details that it adds or leaves out do not matter, as long as the "
    "event itself is told and nothing contradicts it. Answer yes or no.",
    "interleave": _KNOWN
    + "Among common events, this one is unexpected. Does the description mention it? Other words for the same event "
    "count. Answer yes or no.",
    "misleading": _KNOWN
    + "Does the description tell this event rightly, and no event that has nothing to do with it? One event that does "
    "not happen in the video makes the answer no. Answer yes or no.",
}


def judge_question(key: str, split: str, record: Mapping[str, Any], description: str) -> JudgeQuestion:
    """The question to the judge.

    Args:
        key: the description's key.
        split: "entire", "interleave" or "misleading".
        record: the published record of the video, without `faults`.
        description: the answer about the video.
    """
    truth = record["event_info"][TRUTHS[split]]
    # Not str.format: a description may hold braces.
    text = TEXTS[split].replace("{truth}", truth).replace("{description}", description)
    return JudgeQuestion(text, key=key, system=SYSTEM)


def faults(split: str, records: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Why a judge cannot be asked about descriptions of a split's videos (id -> published record)."""
    if split not in TEXTS:
        return [f"there is no question to the judge about split {split!r}, only about {', '.join(TEXTS)}"]
    name = TRUTHS[split]
    lacking = [video for video, record in records.items() if not isinstance(record["event_info"].get(name), str)]
    return [f"{split}/{video} has no event_info.{name}, with which its description is compared" for video in lacking]
