"""VBench's dimensions that look at optical flow: dynamic degree, and temporal flickering of videos that stand still."""

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
    """A measure that looks at optical flow."""

    flow: OpticalFlow

    @property
    def light(self) -> bool:  # type: ignore[override]
        """All but RAFT run beside the decoding."""
        return not isinstance(self.flow, RaftFlow)

    def facts(self) -> dict[str, Any]:
        """The flow's."""
        return flow_facts(self.flow)

    def place(self, device: torch.device) -> None:
        """RAFT reads its weights at its first frames, and runs here."""
        if isinstance(self.flow, RaftFlow):
            self.flow.device = str(device)


class Dynamics(_FlowMeasure):
    """Dynamic degree: whether a video moves, and how far: "flow", the mean over its pairs of frames, in pixels."""

    def watch(self, facts: VideoFacts, prompt: str = "") -> Watcher:
        """Keeps a frame."""
        return _DynamicsWatcher(self.flow, facts)


class StaticFlickering(_FlowMeasure):
    """Temporal flickering, and "static": whether the video stands still, without which VBench does not count it."""

    def watch(self, facts: VideoFacts, prompt: str = "") -> Watcher:
        """Keeps the first frame and two more."""
        return _StaticWatcher(self.flow, facts)


class _PairScores:
    """The flow scores of neighbouring frames, `interval` apart."""

    def __init__(self, flow: OpticalFlow, interval: int, share: float) -> None:
        self.flow, self.interval, self.share = flow, interval, share
        self.before: Tensor | None = None
        self.found: list[float] = []

    def see(self, frames: Tensor, first: int) -> None:
        kept = frames[-first % self.interval :: self.interval]
        if not len(kept):
            return
        pairs = kept if self.before is None else torch.cat([self.before, kept])
        self.before = kept[-1:]
        if len(pairs) > 1:
            self.found += self.of(pairs)

    def of(self, frames: Tensor) -> list[float]:
        """From each of (n, 3, H, W) frames to the next."""
        return [flow_score(magnitude, self.share) for magnitude in self.flow.magnitudes(self._padded(frames))]

    def _padded(self, frames: Tensor) -> Tensor:
        """For RAFT a frame grows to sides that it takes, and the published score counts what was added."""
        padding = centred(frames.shape[-2], frames.shape[-1], _STEP)
        if not isinstance(self.flow, RaftFlow) or not any(padding):
            return frames
        return F.pad(frames.float(), padding, mode="replicate")


class _DynamicsWatcher:
    def __init__(self, flow: OpticalFlow, facts: VideoFacts) -> None:
        self.facts = facts
        self.scores = _PairScores(flow, frame_interval(facts.fps), DYNAMIC_SHARE)

    def see(self, frames: Tensor, first: int) -> None:
        self.scores.see(frames, first)

    def result(self) -> dict[str, Any]:
        found = self.scores.found
        moves = is_dynamic(found, self.facts.height, self.facts.width)
        return {"score": moves, "flow": float(np.mean(found)) if found else 0.0}


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
        assert self.scores.before is not None, "of which the last is kept"
        end_scores = self.scores.of(torch.cat([self.first, self.scores.before, self.first]))
        static = is_static(self.scores.found, end_scores, self.facts.height, self.facts.width)
        return {**self.flicker.result(), "static": static}
