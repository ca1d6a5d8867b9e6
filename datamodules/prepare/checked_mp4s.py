"""Check of the mp4 files that rows name, in several processes, each file once."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from datamodules.prepare.kept_results import Result, identity_of
from datamodules.prepare.workers import Workers
from datamodules.video.codec import probe
from datamodules.video.facts import VideoFacts


@dataclass(frozen=True, slots=True)
class Mp4Task:
    """File to be checked."""

    path: Path
    identity: str | None = None


@dataclass(frozen=True, slots=True)
class Mp4Check:
    """Check of one file.

    Attributes:
        every_frame: decode all frames; False: the first one.
    """

    every_frame: bool

    def __call__(self, task: Mp4Task) -> Result:
        """The video's facts, or why it cannot be used."""
        facts = mp4_facts(task.path, self.every_frame)
        return Result(facts if isinstance(facts, str) else asdict(facts))


class CheckedMp4s:
    """Facts of files, or why they cannot be used, by path.

    Args:
        workers: run an `Mp4Check`.
        paths: of all files, in the order in which they are asked for.
        every_frame: as the check.
    """

    def __init__(self, workers: Workers, paths: Sequence[Path], every_frame: bool) -> None:
        self._waiting = deque(dict.fromkeys(paths))  # many rows may ask about one video
        self._known: dict[Path, VideoFacts | str] = {}
        # A look at the first frame costs less than keeping what it says.
        self._results = workers.results(
            Mp4Task(path, identity_of(path, "mp4") if every_frame else None) for path in tuple(self._waiting)
        )

    def __call__(self, path: Path) -> VideoFacts | str:
        """What is known of a file."""
        while path not in self._known:
            facts = next(self._results).facts
            self._known[self._waiting.popleft()] = facts if isinstance(facts, str) else VideoFacts(**facts)
        return self._known[path]


def mp4_facts(path: Path, every_frame: bool) -> VideoFacts | str:
    """The facts of a video, or why it cannot be used."""
    if not path.exists():
        return f"there is no file {path}"
    if path.suffix.lower() != ".mp4":
        return f"{path.name} is not an mp4; `ffmpeg -i {path.name} {path.stem}.mp4` makes one"
    try:
        return probe(path, constant_rate=True, every_frame=every_frame)
    except ValueError as error:
        return str(error)
