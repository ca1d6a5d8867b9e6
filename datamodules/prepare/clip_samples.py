"""Samples of captioned videos: which clips are cut from each, and which of those stay."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datamodules.dense.rows import VideoRow
from datamodules.prepare.captions import CaptionedVideo
from datamodules.prepare.clip_cutter import CutTask, trial_of
from datamodules.prepare.clip_format import ClipFormat, kept_area
from datamodules.prepare.kept_results import Result, identity_of
from datamodules.prepare.parts import described
from datamodules.prepare.row_writer import Sample
from datamodules.prepare.rows import SourceRow, key_part
from datamodules.prepare.selection import Trial, VideoSelection
from datamodules.prepare.video_filters import Candidate
from datamodules.prepare.workers import Workers
from datamodules.video.codec import probe
from datamodules.video.facts import VideoFacts


@dataclass(frozen=True, slots=True)
class _Plan:
    """Plan of a video's clips, made from its header alone.

    Attributes:
        clips: the format of its clips.
        whole: the video.
        trial: the findings of the filters of facts.
        starts: of its clips, in seconds; empty where they rejected it.
    """

    clips: ClipFormat
    whole: Candidate
    trial: Trial
    starts: Sequence[float]


@dataclass(slots=True, eq=False, kw_only=True)
class ClipSamples:
    """Samples of videos, one video after the other, from clips that workers cut.

    Attributes:
        videos: by the identities of their rows.
        formats: of clips; a video goes to the one that keeps most of its picture.
        clips_per_video: clips at most of one video.
        selection: the filters of facts and captions, and what all filters say.
        source: a name for tables.
        skip_bad: go on after a fault.
        several_sizes: put each size into shards of its own.
        workers: run a `ClipCutter`.
    """

    videos: Mapping[int, CaptionedVideo]
    formats: Sequence[ClipFormat]
    clips_per_video: int
    selection: VideoSelection
    source: str
    skip_bad: bool
    several_sizes: bool
    workers: Workers
    _plans: dict[int, _Plan] | None = None
    _results: Iterator[Result] | None = None
    _done: int = 0
    _faulty: bool = False

    def __post_init__(self) -> None:
        self._note(*(video.row for video in self.videos.values()))

    @property
    def stopped(self) -> bool:
        """A fault stops the run: the other videos are decoded for their faults alone, and no filter judges them."""
        return self._faulty and not self.skip_bad

    # Noted as they come: a look at all rows for each video would take the square of their number.
    def _note(self, *rows: SourceRow) -> None:
        self._faulty = self._faulty or any(row.faults for row in rows)

    @property
    def finished(self) -> bool:
        """Every video was cut, and its samples were taken."""
        return self._done == len(self.videos) and not self.stopped

    def samples(self, row: SourceRow) -> Iterator[Sample]:
        """The samples of one video, all in the order of `videos`; none where it has a fault, noted in its row."""
        if self._plans is None:  # at the first video, so that all of them are planned before one is decoded
            settings = described(self.workers.work)
            self._plans = self._planned()
            self._results = self.workers.results(self._tasks(self._plans, settings))
        plan = self._plans.get(id(row))
        if plan is not None:
            trials, members = [plan.trial], {}
            if plan.starts and self._results is not None:
                result = next(self._results)
                trials, members = [trial_of(trial) for trial in result.facts["trials"]], result.members
                for fault in result.facts["faults"]:
                    row.refuse("video", fault)
                self._note(row)
            if not row.faults and not self.stopped:
                self.selection.trials += trials
                for number, trial in enumerate(trials):
                    video = members.get(f"{number}.mp4")
                    # Captions last: those filters may ask a language model.
                    if video is not None and self.selection.judge(trial, plan.whole, "caption"):
                        yield self._sample(trial, video, plan)
        self._done += 1

    def _planned(self) -> dict[int, _Plan]:
        """The plans of all videos that can be opened, by the identities of their rows.

        They need no decoding, so that the expensive filters see only what the cheap ones leave.
        """
        for criterion in self.selection.filters:
            criterion.prepare()
        plans = {row: plan for row, video in self.videos.items() if (plan := self._plan(video)) is not None}
        self._note(*(video.row for video in self.videos.values()))
        if not self.stopped:
            accepted = [self.videos[row] for row, plan in plans.items() if plan.starts]
            for criterion in self.selection.filters:
                criterion.expect([video.caption for video in accepted if not video.row.faults])
        return plans

    def _plan(self, video: CaptionedVideo) -> _Plan | None:
        """None after noting why the video gives no clip, or where there is no file."""
        if video.row.faults and not video.path.exists():
            return None
        try:
            facts = probe(video.path, constant_rate=True)
        except ValueError as error:
            video.row.refuse("video", str(error))
            return None
        clips = max(self.formats, key=lambda clips: kept_area(facts, clips.height, clips.width))
        kept = kept_area(facts, clips.height, clips.width)
        whole = Candidate(video.caption, facts, None, clips.rate(facts), kept)
        trial = Trial(sample_key(video.video_id), video.video_id, None, {"kept_area": round(kept, 6)})
        if not self.selection.judge(trial, whole, "facts"):
            return _Plan(clips, whole, trial, ())
        try:
            return _Plan(clips, whole, trial, clips.starts(facts, self.clips_per_video))
        except ValueError as error:
            video.row.refuse("video", str(error))
            return None

    def _tasks(self, plans: Mapping[int, _Plan], settings: Any) -> Iterator[CutTask]:
        """What is to be cut, in order; each is made when a process is free for it, or nearly so."""
        for row, plan in plans.items():
            if plan.starts:
                video = self.videos[row]
                # What is faulty, or comes after a fault that stops the run, is decoded for its faults alone.
                judged = not video.row.faults and not self.stopped
                identity = identity_of(video.path, settings, described(plan)) if judged else None
                yield CutTask(video.path, plan.clips, plan.whole, plan.trial, plan.starts, judged, identity)

    def _sample(self, trial: Trial, video: bytes, plan: _Plan) -> Sample:
        frames, fps = plan.clips.frames, plan.whole.fps
        facts = VideoFacts(frames, fps, plan.clips.width, plan.clips.height)
        row = VideoRow(trial.key, trial.video, plan.whole.caption, facts, self.source, trial.scores)
        return Sample(row, lambda: {"mp4": video}, plan.clips.size if self.several_sizes else "")


def sample_key(video_id: str) -> str:
    """A video's name in its shard: its path without the usual suffix."""
    return key_part(video_id.removesuffix(".mp4"))
