"""Measures of a policy on videos of the toy world: yes-or-no answers, what sentences say, and what the video decides.

Each is a number over facts, split into those that are as usual of their colour and counter-prior ones.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.toy.vista.videos import ToyVideo, answer_scores, generated
from benchmarks.video_hallucer.yes_no import is_hit
from datamodules.toy_world.questions import (
    SUBSETS,
    YES_NO_SUFFIX,
    Claim,
    Subset,
    falsified,
    is_usual,
    parse_claim,
    parse_verdict,
    question_text,
)
from datamodules.toy_world.rows import sentence
from lightning_modules.policies.video_llm import VideoLLM

#: The facts that have a usual value, with the name of each in a claim.
FACTS: dict[Subset, str] = {"relation": "place", "temporal": "order", "detail": "direction"}
#: Longer than any report of the toy world.
REPORT_TOKENS = 24
YES_NO_TOKENS = 4

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def report_question(claim: Claim) -> str:
    """The question that a report of the claim's event answers."""
    return f"What does the {claim.thing} do?"


def stated_facts(policy: VideoLLM, videos: Sequence[ToyVideo]) -> dict[str, float]:
    """How often the policy's own report of an event states its facts rightly.

    Returns:
        "stated": the share of all facts, the criterion of learning rates; "stated_usual", "stated_counter": of facts
        that are as usual, and of the others; "reports_counter": the share of reports with every fact right, where at
        least one fact is counter-prior. A report from which no claim can be read states nothing.
    """
    replies = generated(policy, [video.asked(report_question(video.truth)) for video in videos], REPORT_TOKENS)
    right, usual = np.zeros((len(videos), len(FACTS)), bool), _usual(videos)
    for place, (video, reply) in enumerate(zip(videos, replies, strict=True)):
        claim = parse_claim(reply)
        if claim is not None and claim.thing == video.truth.thing:
            right[place] = [getattr(claim, name) == getattr(video.truth, name) for name in FACTS.values()]
    counter = np.asarray(~usual.all(axis=1))
    return (
        {"stated": float(right.mean())}
        | _split("stated", right, usual)
        | {"reports_counter": _mean(np.asarray(right.all(axis=1))[counter])}
    )


def says(policy: VideoLLM, videos: Sequence[ToyVideo]) -> dict[str, float]:
    """How often the true report has a larger log-probability than the same with one fact changed."""
    views = []
    for video in videos:
        for subset in FACTS:
            false = falsified(video.truth, subset, random.Random(0))
            answers = sentence(str(video.truth)), sentence(str(false))
            views.append(video.asked(report_question(video.truth), *answers))
    scores = answer_scores(policy, views).numpy()
    right = (scores[:, 0] > scores[:, 1]).reshape(len(videos), len(FACTS))
    return {"says": float(right.mean())} | _split("says", right, _usual(videos))


def yes_no(policy: VideoLLM, videos: Sequence[ToyVideo]) -> dict[str, float]:
    """VideoHallucer's pairs on every fact and on the object: the generated word, and the margin of yes over no.

    Returns:
        "basic", "hallucinated", "overall": accuracies, the mean over the four subsets as the benchmark has it;
        "overall_usual", "overall_counter", "auc", "auc_usual", "auc_counter": of facts with a usual value.
    """
    questions = []
    for video in videos:
        for subset in SUBSETS:
            # Equal for every policy that is measured on these videos.
            false = falsified(video.truth, subset, random.Random(video.key))
            questions += [question_text(subset, claim) + YES_NO_SUFFIX for claim in (video.truth, false)]
    owners = [video for video in videos for _ in range(2 * len(SUBSETS))]
    views = [video.asked(text, "Yes.", "No.") for video, text in zip(owners, questions, strict=True)]
    shape = (len(videos), len(SUBSETS), 2)
    replies = generated(policy, views, YES_NO_TOKENS)
    expected = ["yes", "no"] * (len(views) // 2)
    hits = np.array([is_hit(word, reply) for word, reply in zip(expected, replies, strict=True)]).reshape(shape)
    scores = answer_scores(policy, views).numpy()
    margins = (scores[:, 0] - scores[:, 1]).reshape(shape)
    both, facts, usual = np.asarray(hits.all(axis=2)), [SUBSETS.index(subset) for subset in FACTS], _usual(videos)
    values = {"basic": float(hits[..., 0].mean()), "hallucinated": float(hits[..., 1].mean())}
    values |= {"overall": float(both.mean())} | _split("overall", both[:, facts], usual)
    parts = {"auc": np.ones_like(usual), "auc_usual": usual, "auc_counter": ~usual}
    return values | {name: auc(*np.moveaxis(margins[:, facts][part], -1, 0)) for name, part in parts.items()}


def verdicts(policy: VideoLLM, videos: Sequence[ToyVideo]) -> dict[str, float]:
    """Yes-or-no questions that a sentence answers: whether its verdict is right, and follows from what it states.

    Returns:
        "verdict": the share of pairs with both verdicts right, of facts with a usual value; "verdict_usual",
        "verdict_counter"; "tied": of the replies that state the asked thing's facts, those whose verdict follows from
        them, be they right or wrong; absent where no reply states them. A reply without a verdict is wrong.
    """
    asked = [
        (video, subset, claim)
        for video in videos
        for subset in FACTS
        for claim in (video.truth, falsified(video.truth, subset, random.Random(video.key)))
    ]
    views = [video.asked(question_text(subset, claim)) for video, subset, claim in asked]
    right, tied = [], []
    for (video, subset, claim), text in zip(asked, generated(policy, views, REPORT_TOKENS), strict=True):
        verdict, stated = parse_verdict(text), parse_claim(text)
        right.append(verdict == ("yes" if claim == video.truth else "no"))
        if verdict is not None and stated is not None and stated.thing == claim.thing:
            fact = FACTS[subset]
            tied.append((verdict == "yes") == (getattr(stated, fact) == getattr(claim, fact)))
    both = np.asarray(np.array(right).reshape(len(videos), len(FACTS), 2).all(axis=2))
    shares = {"verdict": float(both.mean())} | _split("verdict", both, _usual(videos))
    return shares | ({"tied": float(np.mean(tied))} if tied else {})


def gaps(policy: VideoLLM, videos: Sequence[ToyVideo]) -> dict[str, float]:
    """The chosen answer's log-probability under the right view minus that under each negative, nats.

    Returns:
        "gap_NAME": the mean; "above_NAME": the share of rows in which it is positive; "above_rejected": the share in
        which the chosen answer is above the rejected one under the video.
    """
    values: dict[str, float] = {}
    for name in videos[0].contrasts:
        views = [view for video in videos for view in video.contrasts[name]]
        scores = answer_scores(policy, views).view(len(videos), 2).numpy()
        difference = scores[:, 0] - scores[:, 1]
        values |= {f"gap_{name}": float(difference.mean()), f"above_{name}": float((difference > 0).mean())}
    scores = answer_scores(policy, [video.original for video in videos]).numpy()
    return values | {"above_rejected": float((scores[:, 0] > scores[:, 1]).mean())}


def measure_all(policy: VideoLLM, videos: Sequence[ToyVideo]) -> dict[str, float]:
    """All measures."""
    return {**stated_facts(policy, videos), **says(policy, videos), **yes_no(policy, videos), **gaps(policy, videos)}


def auc(positive: Floats, negative: Floats) -> float:
    """Chance that a random positive is above a random negative, ties counting one half."""
    difference = positive[:, None] - negative[None, :]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def _usual(videos: Sequence[ToyVideo]) -> Bools:
    """(videos, facts) whether the fact is the usual one of its colour."""
    return np.array([[bool(is_usual(video.truth, subset)) for subset in FACTS] for video in videos])


def _split(name: str, right: Bools, usual: Bools) -> dict[str, float]:
    return {f"{name}_usual": _mean(right[usual]), f"{name}_counter": _mean(right[~usual])}


def _mean(values: Bools) -> float:
    if not values.size:
        raise ValueError("no fact of one kind, usual or counter-prior, is among the videos; measure more of them")
    return float(values.mean())
