"""Layouts of public data sets of preferences between generated videos, as one table.

A layout says which columns hold the two videos and the prompt, on which axes they are compared, and how a verdict is
spelt.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datamodules.prepare.conversations import UnreadableRowError
from datamodules.prepare.pair_verdicts import (
    BETTER,
    LETTERS,
    VIDEOS,
    VOTES,
    Verdict,
    Words,
    number_of,
    score_verdict,
    vote_verdict,
    word_verdict,
)
from datamodules.prepare.rows import SourceRow

Row = Mapping[str, Any]
#: The axis that is the overall judgement, taken where none is chosen.
OVERALL = "Overall"


@dataclass(frozen=True, slots=True)
class PairLayout:
    """Columns of a data set.

    Attributes:
        title: whose they are.
        first: the column of the first video; "a|b" = one of the two.
        second: of the second video.
        prompt: of the prompt.
        axes: axis -> its column of words, or "" where `axis_pattern` finds the columns.
        words: what the words mean.
        votes: two columns of votes, with the axis in braces.
        scores: two columns of scores.
        axis_pattern: of the columns of votes, with the axis as its group.
        needs: further columns by which the layout is known.
        kept: columns of numbers that are kept with the pair.
    """

    title: str
    first: str
    second: str
    prompt: str
    axes: Mapping[str, str] = field(default_factory=dict)
    words: Words = field(default_factory=dict)
    votes: tuple[str, str] | None = None
    scores: tuple[str, str] | None = None
    axis_pattern: str = ""
    needs: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    def missing(self, row: Row) -> list[str]:
        """The columns that a row lacks."""
        needs = (self.first, self.second, self.prompt, *self.needs)
        return [need.replace("|", " or ") for need in needs if not any(row.get(name) for name in need.split("|"))]

    def axes_of(self, row: Row) -> list[str]:
        """The axes on which a row compares its videos."""
        if self.axis_pattern:
            return [match[1] for name in row if (match := re.fullmatch(self.axis_pattern, name))]
        return [axis for axis, column in self.axes.items() if column in row]

    def value(self, row: Row, need: str) -> tuple[str, Any]:
        """Name and content of the column that a row has of several."""
        # `missing` has been asked before: one of them is there.
        return next((name, row[name]) for name in need.split("|") if row.get(name))

    def verdict(self, row: Row, axis: str | None, margin: float, share: float) -> tuple[Verdict, dict[str, float]]:
        """Which video of a row is better, and the numbers that say so.

        Raises:
            UnreadableRowError: it is not said, or in other words than the layout has.
        """
        if self.scores or self.votes:
            names = self.scores or tuple(name.format(axis=axis) for name in self.votes or ())
            first, second = (number_of(name, row.get(name)) for name in names)
            verdict = score_verdict(first, second, margin) if self.scores else vote_verdict(first, second, share)
            return verdict, {"first": first, "second": second}
        kept = {name: number_of(name, row[name]) for name in self.kept if row.get(name) is not None}
        if axis is None:
            return None, kept
        column = self.axes[axis]
        if row.get(column) in (None, ""):
            raise UnreadableRowError(column, "is missing; it says which video is better")
        return word_verdict(column, row[column], self.words), kept


_ALIGN_AXES = {axis: axis for axis in ("VQ", "MQ", "TA", OVERALL)}
# In the order in which they are tried: VideoGen-RewardBench's columns are VideoAlign's and one more.
LAYOUTS: dict[str, PairLayout] = {
    "videogen_rewardbench": PairLayout(
        "VideoGen-RewardBench's", "path_A", "path_B", "prompt", _ALIGN_AXES, LETTERS, needs=(OVERALL,)
    ),
    "videoalign": PairLayout("VideoAlign's", "path_A", "path_B", "prompt", _ALIGN_AXES, LETTERS),
    "genai_bench": PairLayout(
        "GenAI-Bench's",
        "left_video|video_left",
        "right_video|video_right",
        "prompt",
        {"vote_type": "vote_type"},
        VOTES,
        needs=("vote_type",),
    ),
    "visionreward": PairLayout(
        "VisionReward's",
        "video1_path",
        "video2_path",
        "prompt",
        {"standard_answer": "standard_answer"},
        VIDEOS,
        needs=("standard_answer",),
    ),
    "mj_bench": PairLayout(
        "MJ-Bench-Video's",
        "video_0_path",
        "video_1_path",
        "caption",
        {OVERALL: "overall_preference"},
        BETTER,
        needs=("overall_preference",),
    ),
    # The axis is in the names of the columns, and a file has the axes that its voters were asked about.
    "rapidata": PairLayout(
        "Rapidata's",
        "file_name1",
        "file_name2",
        "prompt",
        votes=("weighted_results1_{axis}", "weighted_results2_{axis}"),
        axis_pattern="weighted_results1_(.+)",
    ),
    "videofeedback2": PairLayout(
        "VideoFeedback 2's", "first", "second", "prompt", scores=("first_score", "second_score")
    ),
    "videodpo": PairLayout("VideoDPO's", "first", "second", "prompt", {"winner": "winner"}, VIDEOS, kept=("score",)),
}

FEEDBACK_AXES = ("visual_score", "t2v_score", "phy_score")


def layout_of(row: Row) -> str | None:
    """The layout of a row; None = it is none of the table."""
    if {"video_name", "prompt", *FEEDBACK_AXES} <= row.keys() or {
        "video_url",
        "prompt",
        *FEEDBACK_AXES,
    } <= row.keys():
        return "videofeedback2"
    # These two are known by their files, and become rows of the names in the table.
    from_files = ("videofeedback2", "videodpo")
    return next((name for name, layout in LAYOUTS.items() if name not in from_files and not layout.missing(row)), None)


def nearest_layout(row: Row) -> str:
    """The layout of which a row lacks the fewest columns."""
    return layout_of(row) or min(LAYOUTS, key=lambda name: len(LAYOUTS[name].missing(row)))


def chosen_axis(layout: PairLayout, rows: Sequence[SourceRow], axis: str | None) -> str | None:
    """The axis to read: the one that was asked for, the overall one, or the only one.

    Raises:
        ValueError: it does not exist, or there are several to choose from.
    """
    # Over all rows, as the first may lack a column.
    axes = Counter(name for row in rows for name in layout.axes_of(row.data))
    if axis is not None and axis not in axes and not layout.scores:
        raise ValueError(f"has no axis {axis}; there are {', '.join(axes) or 'none'}")
    if axis is not None or layout.scores:
        return axis
    if OVERALL in axes:
        return OVERALL
    if len(axes) > 1:
        raise ValueError(f"compares videos on several axes; choose one: --axis {' or '.join(axes)}")
    return next(iter(axes), None)
