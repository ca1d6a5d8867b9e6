"""Videos as rows of others name them: a path, a folder of frames, a list of frames, or base64 within the row."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from datamodules.prepare.checked_mp4s import mp4_facts
from datamodules.prepare.vistadpo import PICTURES, pictures, read_frames
from datamodules.video.codec import encode_mp4, probe
from datamodules.video.containers import container_format
from datamodules.video.facts import VideoFacts


@dataclass(frozen=True, slots=True)
class ImportedVideo:
    """A video that can be packed.

    Attributes:
        video_id: names it: its path within the folder of videos, or a hash of its content.
        facts: frames, fps and size.
        content: gives the mp4's bytes.
    """

    video_id: str
    facts: VideoFacts
    content: Callable[[], bytes]


@dataclass(eq=False)
class VideoFinder:
    """Finds the videos that rows name.

    Attributes:
        folder: in which relative paths begin.
        prefix: taken off the beginning of paths, "" = nothing.
        fps: frames per second of folders and lists of frames.
        lossless: how these are encoded.
        every_frame: decode all frames of every mp4 once.
        any_container: take other containers than mp4, too: the frames are encoded again.
    """

    folder: Path
    prefix: str = ""
    fps: float = 1.0
    lossless: bool = False
    every_frame: bool = True
    any_container: bool = False
    _known: dict[str, ImportedVideo | str] = field(default_factory=dict)

    def __call__(self, value: Any) -> ImportedVideo:
        """The video that a value of a row means.

        Args:
            value: a path, a data URI, a list with one of them or with frames, or an object with bytes or a path.

        Raises:
            ValueError: says why it cannot be used.
        """
        if isinstance(value, dict):  # a file in a column of parquet
            value = value.get("bytes") or value.get("path")
        if isinstance(value, list):
            if not value or not all(isinstance(name, str) and name for name in value):
                raise ValueError("is not a path, nor a list of the paths of frames")
            if len(value) > 1 or Path(value[0]).suffix.lower() in PICTURES:
                return self._known_video("\n".join(value), lambda: self._of_frames(value))
            value = value[0]
        if not isinstance(value, str) or not value.strip():
            raise ValueError("names no video")
        # Under its hash: the address holds the whole video, and keys are kept.
        if value.startswith("data:"):
            return self._known_video(hashlib.sha256(value.encode()).hexdigest(), lambda: self._of_base64(value))
        return self._known_video(value, lambda: self._of_path(value))

    def _known_video(self, name: str, find: Callable[[], ImportedVideo]) -> ImportedVideo:
        """The video of a name, which many rows may ask about: it is looked for and decoded once."""
        if name not in self._known:
            try:
                self._known[name] = find()
            except ValueError as error:
                # Faults are kept as well: every row that names a missing video gets the reason, the disk is asked once.
                self._known[name] = str(error)
        video = self._known[name]
        if isinstance(video, str):
            raise ValueError(video)
        return video

    def place(self, name: str) -> Path:
        """Where the file of a name is.

        Raises:
            ValueError: it is an address, or without the prefix.
        """
        name = name.removeprefix("file://")
        if urlparse(name).scheme in ("http", "https", "s3", "gs", "oss", "hf"):
            raise ValueError(f"{name[:60]} is an address; download the video and give its path")
        if self.prefix and not name.startswith(self.prefix):
            raise ValueError(f"{name} does not begin with {self.prefix}, which is to be taken off")
        # What is left of an absolute path after its prefix begins in the folder.
        name = name.removeprefix(self.prefix).lstrip("/") if self.prefix else name
        # Not resolved: a link is the video that it is called by.
        return Path(os.path.normpath(self.folder / name))

    def _id(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.folder)).as_posix()

    def _of_path(self, name: str) -> ImportedVideo:
        path = self.place(name)
        # A name without a suffix may be a folder of frames or an mp4.
        if not path.exists() and not path.suffix and path.with_suffix(".mp4").is_file():
            path = path.with_suffix(".mp4")
        if path.is_dir():
            return self._encoded(self._id(path), pictures(path))
        if not path.exists() and not path.suffix:
            raise ValueError(f"there is neither a folder of frames {path} nor a video {path}.mp4")
        if path.suffix.lower() in PICTURES:
            raise ValueError(f"{path.name} is a picture, not a video; rows that only have pictures are not read")
        if self.any_container and path.is_file():
            facts: VideoFacts | str = probe(path, constant_rate=True, every_frame=self.every_frame)
        else:
            facts = mp4_facts(path, self.every_frame)
        if isinstance(facts, str):
            raise ValueError(facts)
        return ImportedVideo(self._id(path), facts, path.read_bytes)

    def _of_frames(self, names: list[str]) -> ImportedVideo:
        paths = [self.place(name) for name in names]
        if missing := [path for path in paths if not path.is_file()]:
            more = f" and {len(missing) - 1} more frames" if len(missing) > 1 else ""
            raise ValueError(f"there is no file {missing[0]}{more}")
        folder = self._id(paths[0].parent)
        selected = hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]
        # Two lists may choose different frames of one folder; they are still of one video.
        video = self._encoded(folder, paths)
        return video if folder not in (".", "") else ImportedVideo(f"frames-{selected}", video.facts, video.content)

    def _encoded(self, video_id: str, paths: list[Path]) -> ImportedVideo:
        frames = read_frames(paths)
        count, _, height, width = frames.shape
        facts = VideoFacts(count, self.fps, width, height)
        # Read again when it is packed: decoded frames of all rows would not fit into memory.
        return ImportedVideo(video_id, facts, lambda: encode_mp4(read_frames(paths), self.fps, self.lossless))

    def _of_base64(self, address: str) -> ImportedVideo:
        head, comma, text = address.partition(",")
        if not comma or not head.endswith(";base64"):
            raise ValueError(f"{head[:60]} is no data:video/mp4;base64 address")
        try:
            content = base64.b64decode(text, validate=True)
        except binascii.Error as error:
            raise ValueError(f"is not base64 ({error})") from error
        try:
            kind = container_format(content)
        except ValueError as error:
            raise ValueError(f"its base64 is no video: {error}") from error
        # FFmpeg's name for the family of mp4 and mov.
        if kind != "mov":
            raise ValueError(f"its base64 is a {kind} file, not an mp4; re-encode it")
        name = f"base64-{hashlib.sha256(content).hexdigest()[:16]}"
        return ImportedVideo(name, probe(content, constant_rate=True, every_frame=self.every_frame), lambda: content)
