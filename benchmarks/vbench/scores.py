"""Scores of a folder from those of its videos: means by the published weights, and their intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping
from typing import Any

import numpy as np

from benchmarks.base.answer_metric import AnswerMetric
from benchmarks.base.bootstrap import Intervals, intervals
from benchmarks.vbench.rules import DIMENSIONS
from datamodules.questions.video_folder import FolderVideo

#: A scored video: {"frames": how many, "scores": dimension -> {"score": ..., ...}}.
VideoRecord = Mapping[str, Any]
#: A video weighs as many as its pairs of neighbouring frames.
PAIR_WEIGHTED = ("subject_consistency", "background_consistency")
#: The score of a video is 0 to 100, that of a folder 0 to 1.
PERCENT = ("imaging_quality",)
#: So many static videos of each prompt count for temporal flickering; VBench makes 25 to find them.
STATIC_VIDEOS = 5


def folder_scores(videos: Mapping[str, VideoRecord]) -> dict[str, float]:
    """The raw score of each dimension that some video has, in [0, 1] and in the published order.

    The mean over videos, but for both consistencies: there every pair of neighbouring frames counts once, and where a
    score has a "frame_count": there every frame does. So does the published script in one process; with several it
    takes the plain mean for the subject and for relations.

    Args:
        videos: name -> {"frames", "scores"}.
    """
    scores = {}
    for name in DIMENSIONS:
        scored = [video for video in videos.values() if name in video["scores"]]
        if scored:
            weights = [_weight(name, video) for video in scored]
            scores[name] = float(np.average([_raw(name, video) for video in scored], weights=weights))
    return scores


def _raw(dimension: str, video: VideoRecord) -> float:
    """A video's score in [0, 1]."""
    score = float(video["scores"][dimension]["score"])
    return score / 100 if dimension in PERCENT else score


def _weight(dimension: str, video: VideoRecord) -> int:
    """What a video counts in the folder's mean."""
    pairs = video["frames"] - 1 if dimension in PAIR_WEIGHTED else 1
    return int(video["scores"][dimension].get("frame_count", pairs))


def static_only(videos: Mapping[str, VideoRecord], prompts: Mapping[str, str]) -> dict[str, VideoRecord]:
    """The videos with temporal flickering left only to the first static ones of each prompt; "not_static" marks others.

    Args:
        videos: name -> {"frames", "scores"}, sorted by name; scores without "static" stay.
        prompts: name -> what the video was made from.
    """
    num_static, filtered = Counter[str](), dict(videos)
    for name, video in videos.items():
        # None = the filter is off, and every video counts.
        static = video["scores"].get("temporal_flickering", {}).get("static")
        num_static[prompts[name]] += bool(static)
        if static is False or (static and num_static[prompts[name]] > STATIC_VIDEOS):
            others = {key: score for key, score in video["scores"].items() if key != "temporal_flickering"}
            filtered[name] = {**video, "scores": others, "not_static": True}
    return filtered


def with_observed(
    videos: Mapping[str, VideoRecord],
    observed: Mapping[str, Mapping[str, Any]],
    folder: Mapping[str, FolderVideo],
    skipped: Container[str],
) -> dict[str, VideoRecord]:
    """The videos with their scores from observations, also those that have no others, in the folder's order.

    Args:
        videos: name -> {"frames", "scores"}.
        observed: name -> dimension -> {"score", ...}.
        folder: name -> the video.
        skipped: names of those that are left out.
    """
    joined: dict[str, VideoRecord] = {}
    for name, video in folder.items():
        scores = {**videos.get(name, {"scores": {}})["scores"], **observed.get(name, {})}
        if name not in skipped and (name in videos or scores):
            joined[name] = {"frames": video.facts.frames, **videos.get(name, {}), "scores": scores}
    return joined


def mean_flow(videos: Mapping[str, VideoRecord]) -> float | None:
    """How far videos move, the mean over videos of their flow scores in pixels; None where flow was not measured."""
    scores = [video["scores"] for video in videos.values()]
    flows = [by_dimension["dynamic_degree"]["flow"] for by_dimension in scores if "dynamic_degree" in by_dimension]
    return float(np.mean(flows)) if flows else None


def score_intervals(videos: Mapping[str, VideoRecord], prompts: Mapping[str, str], seed: int) -> Intervals:
    """The bootstrap interval of each dimension; prompts are resampled, each with all of its videos.

    Args:
        videos: name -> {"frames", "scores"}.
        prompts: name -> what the video was made from.
        seed: of the draws.
    """
    ends: Intervals = {}
    for dimension in folder_scores(videos):
        hits: dict[str, float] = {}
        counts: dict[str, float] = {}
        for name, video in videos.items():
            if dimension in video["scores"]:
                weight, prompt = _weight(dimension, video), prompts[name]
                hits[prompt] = hits.get(prompt, 0.0) + weight * _raw(dimension, video)
                counts[prompt] = counts.get(prompt, 0.0) + weight
        # One dimension at a time: dimensions differ in which prompts they are scored on.
        columns = [{dimension: np.array(list(sums.values()))[:, None]} for sums in (hits, counts)]
        ends[dimension] = intervals(columns[0], columns[1], [""], {}, seed)[f"{dimension}/"]
    return ends


class VBenchMetric(AnswerMetric):
    """`folder_scores` over videos that come one by one, in any order and from any rank.

    `update` takes name -> {"frames", "scores"}, or {"skipped": why}.
    """

    def score_items(self, items: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
        """The raw scores."""
        return folder_scores({name: video for name, video in items.items() if "skipped" not in video})
