"""Videos that a data set and a benchmark share: by name, and by what their frames show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datamodules.questions.files import VIDEO_ENDINGS
from datamodules.shards.index import Index
from datamodules.shards.sample_reader import SampleReader
from datamodules.video.hashes import VideoHash, hash_distances, video_hash

#: Differing bits of 64 up to which two videos count as the same; re-encoding and scaling change 0 to 6.
SAME_BITS = 8.0

Video = bytes | Path
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Shared:
    """Video that both hold.

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
    for suffix in VIDEO_ENDINGS:
        last = last.removesuffix(suffix)
    return last.removeprefix("v_")


def shared_by_id(indexes: Sequence[str], names: Iterable[str]) -> list[Shared]:
    """The samples whose video has the name of a benchmark's; only the indexes are read."""
    known = {plain_id(name): name for name in names}
    shared = []
    for path in indexes:
        for entry in Index.read(path).entries:
            name = plain_id(str(entry.facts.get("video_id", entry.key)))
            if name in known:
                shared.append(Shared(f"{path}: {entry.key}", known[name], "id"))
    return shared


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
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_ENDINGS)
    if not paths:
        raise ValueError(f"{folder}: no video in it ({', '.join(VIDEO_ENDINGS)})")
    # The benchmark's videos are kept as hashes, and those of the shards are read one after the other.
    names, hashes = [], []
    for name, video_bits in _hashed(((str(path.relative_to(folder)), path) for path in paths), tell):
        names.append(name)
        hashes.append(video_bits)
    shared = []
    for path in indexes:
        index = Index.read(path)
        # A video has several samples, as several questions are asked about it; it is decoded once.
        samples: dict[str, list[int]] = {}
        for position, entry in enumerate(index.entries):
            if "mp4" in entry.members:
                samples.setdefault(str(entry.facts.get("video_id", entry.key)), []).append(position)
        reader = SampleReader(index)
        videos_of_index = ((video, reader.read(first, ["mp4"])["mp4"]) for video, (first, *_) in samples.items())
        for video, video_bits in _hashed(videos_of_index, tell):
            distances = hash_distances(video_bits, hashes)
            for match in (distances <= same_bits).nonzero()[0].tolist():
                keys = [index.entries[position].key for position in samples[video]]
                shared += [Shared(f"{path}: {key}", names[match], "frames", float(distances[match])) for key in keys]
    return shared


def _hashed(videos: Iterable[tuple[str, Video]], tell: Tell) -> Iterator[tuple[str, VideoHash]]:
    """Name and hashes of each video that can be decoded; of the others a line goes to `tell`."""
    for name, video in videos:
        try:
            yield name, video_hash(video)
        except ValueError as error:
            tell(f"{name}: {error}")
