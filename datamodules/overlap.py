"""Which videos a data set and a benchmark share: by name, and by what their frames show."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datamodules.sample_reader import SampleReader
from datamodules.shard_index import Index
from datamodules.video_hashes import VideoHash, hash_distances, video_hash

#: The fields in which published annotation files name a video.
_NAME_FIELDS = ("video", "video_name", "video_id", "video_path", "vid")
_VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".gif")
#: Differing bits of 64 up to which two videos count as the same; re-encoding and scaling change 0 to 6.
SAME_BITS = 8.0

Video = bytes | Path
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Shared:
    """One video that both hold.

    Attributes:
        train: the sample's key and shards.
        benchmark: the name there.
        by: "id", or "frames" where only the pictures agree.
        bits: differing bits of 64 between the pictures; None = not compared.
    """

    train: str
    benchmark: str
    by: str
    bits: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain types."""
        return asdict(self)


def plain_id(name: str) -> str:
    """A video's name without folder and ending, in small letters and without ActivityNet's "v_"."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1].lower()
    for suffix in _VIDEO_SUFFIXES:
        last = last.removesuffix(suffix)
    return last.removeprefix("v_")


def benchmark_names(files: Iterable[str | Path]) -> set[str]:
    """The names of all videos in annotation files: JSON of any published layout, or folders of such files.

    Raises:
        ValueError: a file that is not there or not JSON, or no video is named.
    """
    paths = [path for one in map(Path, files) for path in (sorted(one.rglob("*.json")) if one.is_dir() else [one])]
    names: set[str] = set()
    for path in paths:
        try:
            names.update(_names_in(json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: cannot be read as JSON annotations ({error})") from error
    if not names:
        fields = ", ".join(_NAME_FIELDS)
        raise ValueError(f"no video is named in {', '.join(map(str, files))}; looked for the fields {fields}")
    return names


def _names_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in _NAME_FIELDS and isinstance(inner, str | int):
                yield str(inner)
            else:
                yield from _names_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _names_in(inner)


def shared_by_id(indexes: Sequence[str], names: Iterable[str]) -> list[Shared]:
    """The samples whose video has the name of a benchmark's; only the indexes are read."""
    known = {plain_id(name): name for name in names}
    found = []
    for path in indexes:
        for entry in Index.read(path).entries:
            video = str(entry.facts.get("video_id", entry.key))
            if plain_id(video) in known:
                found.append(Shared(f"{path}: {entry.key}", known[plain_id(video)], "id"))
    return found


def shared_by_frames(
    indexes: Sequence[str], videos: str | Path, same_bits: float = SAME_BITS, tell: Tell = lambda _: None
) -> list[Shared]:
    """The samples whose frames are those of a benchmark's video; every video is decoded once.

    Args:
        indexes: index files of shards whose samples have a video as ``key.mp4``.
        videos: the benchmark's folder of videos, searched with all folders in it.
        same_bits: differing bits of 64, the mean over five frames, up to which videos are the same.
        tell: gets a line for each video that cannot be decoded, which is then compared with nothing.

    Raises:
        ValueError: there is no video in the folder.
    """
    folder = Path(videos)
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _VIDEO_SUFFIXES)
    if not paths:
        raise ValueError(f"{folder}: no video in it ({', '.join(_VIDEO_SUFFIXES)})")
    names, hashes = [], []
    for name, found in _hashed(((str(path.relative_to(folder)), path) for path in paths), tell):
        names.append(name)
        hashes.append(found)
    shared = []
    for where, own in _hashed(_videos_of(indexes), tell):
        distances = hash_distances(own, hashes)
        same = (distances <= same_bits).nonzero()[0]
        shared += [Shared(where, names[at], "frames", float(distances[at])) for at in same.tolist()]
    return shared


def _videos_of(indexes: Sequence[str]) -> Iterator[tuple[str, Video]]:
    """Each source video once: samples that share a video_id are questions on one video."""
    for path in indexes:
        index, seen = Index.read(path), set[str]()
        reader = SampleReader(index)
        for position, entry in enumerate(index.entries):
            video = str(entry.facts.get("video_id", entry.key))
            if video not in seen and "mp4" in entry.members:
                seen.add(video)
                yield f"{path}: {entry.key}", reader.read(position, ["mp4"])["mp4"]


def _hashed(videos: Iterable[tuple[str, Video]], tell: Tell) -> Iterator[tuple[str, VideoHash]]:
    for name, video in videos:
        try:
            yield name, video_hash(video)
        except ValueError as error:
            tell(f"{name}: {error}")
