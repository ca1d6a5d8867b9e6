"""VBench's dimensions of a video, frame by frame: each watcher keeps two frames, or a row of numbers for each frame."""

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
    """One dimension: what it needs, and who watches a video for it."""

    #: Whether it runs where frames are decoded, several videos at once, because it needs no network.
    light = False

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Which network, as `FrameNetwork.facts`; reads no weights into memory."""

    @abstractmethod
    def watch(self, facts: VideoFacts, prompt: str = "") -> Watcher:
        """The watcher of such a video, made from that prompt; its `result` has "score", and details of the video."""

    def absent(self) -> str | None:
        """Why it cannot run here; None = it can."""
        return None

    def load(self) -> None:  # noqa: B027 not every measure has weights
        """Read the weights, once."""

    def place(self, device: torch.device) -> None:  # noqa: B027 a hook, for those that are no modules
        """Where it runs; networks that are modules are moved with the benchmark."""


@dataclass(frozen=True, slots=True)
class Flickering(Measure):
    """Temporal flickering, on pixels."""

    light = True

    def facts(self) -> dict[str, Any]:
        """No network."""
        return {"network": "none", "weights": None, "proxy": False, "differs": []}

    def watch(self, facts: VideoFacts, prompt: str = "") -> Watcher:
        """Keeps a frame."""
        return _FlickerWatcher()


class _FlickerWatcher:
    def __init__(self) -> None:
        self.before: np.ndarray | None = None
        self.differences: list[float] = []

    def see(self, frames: Tensor, first: int) -> None:
        for frame in frames.cpu().float().numpy():
            if self.before is not None:
                self.differences.append(frame_difference(self.before, frame))
            self.before = frame

    def result(self) -> dict[str, Any]:
        return {"score": closeness(self.differences)}


@dataclass(frozen=True, slots=True)
class NetworkMeasure(Measure):
    """A network's rows, one a frame: their consistency, or their mean.

    Args:
        network: what gives them.
        consistent: take `consistency` of features; else the mean of scores, times `scale`.
        scale: 0.1 for the aesthetic score of 1 to 10.
    """

    network: FrameNetwork
    consistent: bool = False
    scale: float = 1.0

    def facts(self) -> dict[str, Any]:
        """The network's."""
        return self.network.facts()

    def absent(self) -> str | None:
        """The network's."""
        return self.network.absent()

    def load(self) -> None:
        """The network's."""
        self.network.load()

    def watch(self, facts: VideoFacts, prompt: str = "") -> Watcher:
        """Keeps a row for each frame."""
        return _RowWatcher(self)


class _RowWatcher:
    def __init__(self, measure: NetworkMeasure) -> None:
        self.measure = measure
        self.rows: list[Tensor] = []

    def see(self, frames: Tensor, first: int) -> None:
        self.rows.append(self.measure.network(frames).float().cpu())

    def result(self) -> dict[str, Any]:
        rows = torch.cat(self.rows)
        score = consistency(rows) if self.measure.consistent else (rows * self.measure.scale).double().mean().item()
        return {"score": score}


@dataclass(frozen=True, slots=True)
class Smoothness(Measure):
    """Motion smoothness: how near every second frame is to the middle that is made of its neighbours."""

    interpolation: Interpolation

    @property
    def light(self) -> bool:  # type: ignore[override]
        """Whether the interpolation is."""
        return self.interpolation.light

    def facts(self) -> dict[str, Any]:
        """The interpolation's."""
        return self.interpolation.facts()

    def load(self) -> None:
        """The interpolation's."""
        self.interpolation.load()

    def watch(self, facts: VideoFacts, prompt: str = "") -> Watcher:
        """Keeps two frames."""
        return _SmoothnessWatcher(self.interpolation)


class _SmoothnessWatcher:
    def __init__(self, interpolation: Interpolation) -> None:
        self.interpolation = interpolation
        self.before: Tensor | None = None
        self.middle: Tensor | None = None
        self.differences: list[float] = []

    def see(self, frames: Tensor, first: int) -> None:
        for number, frame in enumerate(frames, first):
            if number % 2:
                self.middle = frame
                continue
            if self.before is not None and self.middle is not None:
                made = self.interpolation(self.before, frame)
                # float64, as a mean of integers is
                real, guess = (one.cpu().numpy().astype(np.float64) for one in (self.middle, made))
                self.differences.append(frame_difference(real, guess))
            self.before = frame

    def result(self) -> dict[str, Any]:
        return {"score": closeness(self.differences)}


class Watchers:
    """Several dimensions' watchers of one video as one; `result` is dimension -> its result."""

    def __init__(self, watchers: Mapping[str, Watcher]) -> None:
        self.watchers = watchers

    def see(self, frames: Tensor, first: int) -> None:
        """Shows the frames to each."""
        for watcher in self.watchers.values():
            watcher.see(frames, first)

    def result(self) -> dict[str, Any]:
        """Dimension -> its result."""
        return {name: watcher.result() for name, watcher in self.watchers.items()}


@dataclass(frozen=True)
class Scoring:
    """Which measures a video gets, and where each runs: a `Watching` for the folder.

    Attributes:
        light: dimension -> measure that runs where frames are decoded.
        heavy: dimensions of the others.
    """

    light: Mapping[str, Measure]
    heavy: Sequence[str]

    def start(self, video: FolderVideo) -> Watcher:
        """The light ones of the video."""
        return start(self.light, video)

    def sends(self, video: FolderVideo) -> bool:
        """Whether the video has any of the others."""
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


def for_each(measures: Mapping[str, Measure], do: Callable[[Measure], Any], fault: str) -> dict[str, Any]:
    """What `do` gives for every measure, by dimension.

    Raises:
        ValueError: some networks fail; lists all of them, so that not each takes a start of its own.
    """
    found, faults = {}, dict[str, list[str]]()
    for name, measure in measures.items():
        try:
            found[name] = do(measure)
        except (ValueError, OSError) as error:  # transformers raises OSError for a folder without weights
            faults.setdefault(str(error), []).append(name)
    if faults:
        lines = [f"{', '.join(names)} ({setting_of(names[0])}): {why}" for why, names in faults.items()]
        raise ValueError(
            f"{len(lines)} networks {fault}; do what each line says, or leave a dimension out by setting its network "
            f"to null:{listed(lines)}"
        )
    return found
