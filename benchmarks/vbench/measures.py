"""Measures of VBench's dimensions, frame by frame: a watcher keeps two frames, or a row of numbers for each frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.vbench.motion import Interpolation
from benchmarks.vbench.networks import FrameNetwork
from benchmarks.vbench.rules import closeness, consistency, frame_difference
from datamodules.questions.files import listed
from datamodules.questions.video_folder import FolderVideo, Watcher
from datamodules.video.facts import VideoFacts


class Measure(ABC):
    """Measure of one dimension: the network that it needs, and the watcher that scores a video by it."""

    #: Whether it runs where frames are decoded, in the loader's workers, because it needs no network.
    light = False

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Which network, as `FrameNetwork.facts`; reads no weights into memory."""

    @abstractmethod
    def watch(self, facts: VideoFacts, prompt: str = "") -> Watcher:
        """The watcher of a video; its `result` has "score", and details of the video.

        Args:
            facts: size, rate and number of frames of the video.
            prompt: what it was made from.
        """

    def absent(self) -> str | None:
        """Why it cannot run here; None = it can."""
        return None

    def load(self) -> None:  # noqa: B027 not every measure has weights
        """Read the weights, once."""

    def place(self, device: torch.device) -> None:  # noqa: B027 a hook, for those that are no modules
        """Move it to the device on which it runs; networks that are modules are moved with the benchmark."""


@dataclass(frozen=True, slots=True)
class Flickering(Measure):
    """Measure of temporal flickering, on pixels."""

    light = True

    def facts(self) -> dict[str, Any]:
        """Those of no network."""
        return {"network": "none", "weights": None, "proxy": False, "differs": []}

    def watch(self, facts: VideoFacts, prompt: str = "") -> Watcher:
        """A watcher that keeps one frame."""
        return _FlickerWatcher()


class _FlickerWatcher:
    def __init__(self) -> None:
        self.before: np.ndarray | None = None
        self.differences: list[float] = []

    def see(self, frames: Tensor, first: int) -> None:
        for frame in frames.cpu().float().numpy():  # floats: the difference of two uint8 wraps
            if self.before is not None:
                self.differences.append(frame_difference(self.before, frame))
            self.before = frame

    def result(self) -> dict[str, Any]:
        return {"score": closeness(self.differences)}


@dataclass(frozen=True, slots=True)
class NetworkMeasure(Measure):
    """Measure by a network of frames: the consistency of its features, or the mean of its scores.

    Args:
        network: gives a row of features or a score for each frame.
        consistent: take `consistency` of features; else the mean of scores, times `scale`.
        scale: 0.1 for the aesthetic score of 1 to 10.
    """

    network: FrameNetwork
    consistent: bool = False
    scale: float = 1.0

    def facts(self) -> dict[str, Any]:
        """Those of the network."""
        return self.network.facts()

    def absent(self) -> str | None:
        """Those of the network."""
        return self.network.absent()

    def load(self) -> None:
        """Those of the network."""
        self.network.load()

    def watch(self, facts: VideoFacts, prompt: str = "") -> Watcher:
        """A watcher that keeps a row for each frame."""
        return _RowWatcher(self)


class _RowWatcher:
    def __init__(self, measure: NetworkMeasure) -> None:
        self.measure = measure
        self.rows: list[Tensor] = []

    def see(self, frames: Tensor, first: int) -> None:
        self.rows.append(self.measure.network(frames).float().cpu())  # not kept on the device: a video may be long

    def result(self) -> dict[str, Any]:
        rows = torch.cat(self.rows)
        score = consistency(rows) if self.measure.consistent else (rows * self.measure.scale).double().mean().item()
        return {"score": score}


@dataclass(frozen=True, slots=True)
class Smoothness(Measure):
    """Measure of motion smoothness: how near every second frame is to the one interpolated from its neighbours."""

    interpolation: Interpolation

    @property
    def light(self) -> bool:  # type: ignore[override]
        """Whether the interpolation needs no network."""
        return self.interpolation.light

    def facts(self) -> dict[str, Any]:
        """Those of the interpolation."""
        return self.interpolation.facts()

    def load(self) -> None:
        """Those of the interpolation."""
        self.interpolation.load()

    def watch(self, facts: VideoFacts, prompt: str = "") -> Watcher:
        """A watcher that keeps two frames."""
        return _SmoothnessWatcher(self.interpolation)


class _SmoothnessWatcher:
    def __init__(self, interpolation: Interpolation) -> None:
        self.interpolation = interpolation
        self.before: Tensor | None = None
        self.middle: Tensor | None = None
        self.differences: list[float] = []

    def see(self, frames: Tensor, first: int) -> None:
        for index, frame in enumerate(frames, first):
            if index % 2:
                self.middle = frame
                continue
            if self.before is not None and self.middle is not None:
                interpolated = self.interpolation(self.before, frame)
                # float64, as the published mean over integers is.
                real, guess = (image.cpu().numpy().astype(np.float64) for image in (self.middle, interpolated))
                self.differences.append(frame_difference(real, guess))
            self.before = frame

    def result(self) -> dict[str, Any]:
        return {"score": closeness(self.differences)}


class Watchers:
    """Watcher of one video for several dimensions; `result` is dimension -> its result."""

    def __init__(self, watchers: Mapping[str, Watcher]) -> None:
        self.watchers = watchers

    def see(self, frames: Tensor, first: int) -> None:
        """Show the frames to each watcher."""
        for watcher in self.watchers.values():
            watcher.see(frames, first)

    def result(self) -> dict[str, Any]:
        """Dimension -> its result."""
        return {name: watcher.result() for name, watcher in self.watchers.items()}


@dataclass(frozen=True)
class Scoring:
    """Plan of a scoring, a `Watching` for the folder: which measures run in the workers, and which videos go on.

    Attributes:
        light: dimension -> measure that runs where frames are decoded.
        heavy: dimensions of the others, which run in the benchmark's own process.
    """

    light: Mapping[str, Measure]
    heavy: Sequence[str]

    def start(self, video: FolderVideo) -> Watcher:
        """The watchers of the video's light measures."""
        return start(self.light, video)

    def sends(self, video: FolderVideo) -> bool:
        """Whether the video's frames are sent on, because it has heavy measures."""
        return bool(scored_on(video, self.heavy))


def start(measures: Mapping[str, Measure], video: FolderVideo) -> Watchers:
    """The watchers of those dimensions that the video is scored on."""
    return Watchers({name: measures[name].watch(video.facts, video.prompt) for name in scored_on(video, measures)})


def scored_on(video: FolderVideo, measured: Iterable[str]) -> list[str]:
    """Those of the measured dimensions that the video is scored on."""
    return [name for name in measured if video.dimensions is None or name in video.dimensions]


#: Dimension -> the argument that gives its network.
SETTINGS = {
    "subject_consistency": "subject",
    "background_consistency": "background",
    "temporal_flickering": "flow",
    "motion_smoothness": "interpolation",
    "dynamic_degree": "flow",
    "aesthetic_quality": "aesthetic",
    "imaging_quality": "imaging",
    "appearance_style": "appearance",
}


def setting_of(dimension: str) -> str:
    """The setting that gives a dimension's network."""
    return f"model.{SETTINGS[dimension]}"


def for_each(measures: Mapping[str, Measure], call: Callable[[Measure], Any], fault: str) -> dict[str, Any]:
    """What `call` returns for every measure, by dimension.

    Args:
        measures: dimension -> measure.
        call: a method that may fail with the network.
        fault: what then is the case, for the message: "cannot be loaded".

    Raises:
        ValueError: some networks fail; lists all of them, so that each does not take a start of its own.
    """
    returned, faults = {}, dict[str, list[str]]()
    for name, measure in measures.items():
        try:
            returned[name] = call(measure)
        except (ValueError, OSError) as error:  # transformers raises OSError for a folder without weights
            faults.setdefault(str(error), []).append(name)
    if faults:
        lines = [f"{', '.join(names)} ({setting_of(names[0])}): {message}" for message, names in faults.items()]
        raise ValueError(
            f"{len(lines)} networks {fault}; do what each line says, or leave a dimension out by setting its network "
            f"to null:{listed(lines)}"
        )
    return returned
