"""Measures of VBench's dimensions that need optical flow: dynamic degree, and temporal flickering of static videos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.vbench.measures import Flickering, Measure
from benchmarks.vbench.motion import centred, flow_facts
from benchmarks.vbench.rules import DYNAMIC_SHARE, STATIC_SHARE, flow_score, frame_interval, is_dynamic, is_static
from datamodules.questions.video_folder import Watcher
from datamodules.video.facts import VideoFacts
from datamodules.video.optical_flow import OpticalFlow, RaftFlow

#: RAFT's sides are multiples of this.
_STEP = 8


@dataclass(frozen=True, slots=True)
class _FlowMeasure(Measure):
    """Measure on optical flow."""

    flow: OpticalFlow

    @property
    def light(self) -> bool:  # type: ignore[override]
        """All flows but RAFT run where frames are decoded."""
        return not isinstance(self.flow, RaftFlow)

    def facts(self) -> dict[str, Any]:
        """Those of the flow."""
        return flow_facts(self.flow)

    def place(self, device: torch.device) -> None:
        """Move RAFT to the device; it reads its weights at its first frames."""
        if isinstance(self.flow, RaftFlow):
            self.flow.device = str(device)


class Dynamics(_FlowMeasure):
    """Measure of dynamic degree: whether a video moves; "flow" is how far, the mean over pairs of frames in pixels."""

    def watch(self, facts: VideoFacts, prompt: str = "") -> Watcher:
        """A watcher that keeps one frame."""
        return _DynamicsWatcher(self.flow, facts)


class StaticFlickering(_FlowMeasure):
    """Measure of temporal flickering, with "static": whether the video is still; VBench counts no others."""

    def watch(self, facts: VideoFacts, prompt: str = "") -> Watcher:
        """A watcher that keeps the first frame and two more."""
        return _StaticWatcher(self.flow, facts)


class _PairScores:
    """Flow scores of neighbouring frames, `interval` apart; `share` is that of the pixels that count."""

    def __init__(self, flow: OpticalFlow, interval: int, share: float) -> None:
        self.flow, self.interval, self.share = flow, interval, share
        self.before: Tensor | None = None
        self.scores: list[float] = []

    def see(self, frames: Tensor, first: int) -> None:
        # Every `interval`-th frame of the video, whatever the chunks' borders.
        sampled = frames[-first % self.interval :: self.interval]
        if not len(sampled):
            return
        pairs = sampled if self.before is None else torch.cat([self.before, sampled])
        self.before = sampled[-1:]
        if len(pairs) > 1:
            self.scores += self.of(pairs)

    def of(self, frames: Tensor) -> list[float]:
        """The scores from each of (n, 3, H, W) frames to the next."""
        padding = centred(frames.shape[-2], frames.shape[-1], _STEP)
        if isinstance(self.flow, RaftFlow) and any(padding):
            # The published score counts the padded pixels, too, so that they are not cut off again.
            frames = F.pad(frames.float(), padding, mode="replicate")
        return [flow_score(magnitude, self.share) for magnitude in self.flow.magnitudes(frames)]


class _DynamicsWatcher:
    def __init__(self, flow: OpticalFlow, facts: VideoFacts) -> None:
        self.facts = facts
        self.scores = _PairScores(flow, frame_interval(facts.fps), DYNAMIC_SHARE)

    def see(self, frames: Tensor, first: int) -> None:
        self.scores.see(frames, first)

    def result(self) -> dict[str, Any]:
        scores = self.scores.scores
        moves = is_dynamic(scores, self.facts.height, self.facts.width)
        return {"score": moves, "flow": float(np.mean(scores)) if scores else 0.0}


class _StaticWatcher:
    def __init__(self, flow: OpticalFlow, facts: VideoFacts) -> None:
        self.facts = facts
        self.flicker = Flickering().watch(facts)
        self.scores = _PairScores(flow, 1, STATIC_SHARE)
        self.first: Tensor | None = None

    def see(self, frames: Tensor, first: int) -> None:
        self.flicker.see(frames, first)
        self.scores.see(frames, first)
        if self.first is None:
            self.first = frames[:1].clone()  # a slice would keep its whole chunk in memory

    def result(self) -> dict[str, Any]:
        assert self.first is not None, "a video has frames"
        assert self.scores.before is not None, "the last frame is kept"
        end_scores = self.scores.of(torch.cat([self.first, self.scores.before, self.first]))
        static = is_static(self.scores.scores, end_scores, self.facts.height, self.facts.width)
        return {**self.flicker.result(), "static": static}
