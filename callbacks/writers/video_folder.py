"""Sampled videos as files, named as benchmarks look for them, beside a manifest with every file's prompt."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from callbacks.writers.base import PARTIAL, PredictWriter, refuse_other_settings, write_unnoticed
from datamodules.prepare.parts import Part
from datamodules.questions.folder_names import MANIFEST
from datamodules.shards.index import digest
from datamodules.stream.predict_outputs import SkippableData, VideoRequest, WrittenVideo, differences

#: What common file systems allow in a name, in bytes.
_LONGEST = 255


def video_name(request: VideoRequest) -> str:
    """``{prompt}-{index}.mp4``, as VBench expects.

    A prompt that is too long for a file name, or has a character that no file name can have, is cut to its readable
    beginning and a hash of all of it; the manifest has the whole.
    """
    name = f"{request.prompt}-{request.index}.mp4"
    if request.prompt.isprintable() and "/" not in name and len(name.encode()) <= _LONGEST and name[0] != ".":
        return name
    readable = "".join(character if character.isalnum() else " " for character in request.prompt)
    # Cut in bytes, which a file system counts; a character that is cut in two is left out.
    start = " ".join(readable.split()).encode()[:120].decode(errors="ignore")
    return f"{start} {digest(request.prompt.encode())[:12]}-{request.index}.mp4"


class VideoFolderWriter(PredictWriter):
    """Video folder writer callback: `WrittenVideo`s as ``FOLDER/{prompt}-{index}.mp4`` and ``FOLDER/manifest.json``.

    The manifest is there from the start: {"made_from": settings, "videos": {file name: {"prompt", "index"}}}. The same
    command again makes the videos that are missing; prompts and samples may have been added, other settings need
    another folder. Runs with ``--part`` share the folder, and nothing has to be joined.

    Args:
        folder: where the videos go; on a file system that all ranks see.
    """

    noun = "videos"

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self._names: dict[str, str] = {}

    @property
    def place(self) -> Path:
        """The folder."""
        return self.folder

    @property
    def locked(self) -> tuple[Path, bool]:
        """The folder."""
        return self.folder, True

    def begin(self, data: SkippableData) -> None:
        """Write the manifest, or add to it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.part is None:  # else it may be another part's, which is about to get its name
            for leftover in [path for path in self.folder.iterdir() if PARTIAL.fullmatch(path.name)]:
                leftover.unlink()
        manifest = self._manifest() or {"made_from": self.settings, "videos": {}}
        if not differences(manifest["made_from"], self.settings):
            requests = _requests(data)
            videos = {video_name(request): {"prompt": request.prompt, "index": request.index} for request in requests}
            content = {**manifest, "videos": {**manifest["videos"], **videos}}
            write_unnoticed(self.folder / MANIFEST, json.dumps(content, indent=2, ensure_ascii=False).encode())

    def check(self, data: SkippableData) -> None:
        """Refuse a folder that other settings made.

        Raises:
            ValueError: says what differs, or which requests would have one name.
        """
        manifest = self._manifest()
        assert manifest is not None, "rank 0 has written it"
        remedy = "take those settings again to continue it, or choose another `folder`"
        refuse_other_settings(self.folder, manifest["made_from"], self.settings, remedy)
        requests = _requests(data)
        self._names = {request.key: video_name(request) for request in requests}
        if len(set(self._names.values())) < len(requests):
            raise ValueError("two requests have the same prompt and index; give each prompt once")

    def finished(self, data: SkippableData) -> list[str]:
        """The requests whose file is there."""
        names = {path.name for path in self.folder.glob("*.mp4")}
        return [key for key in data.keys if self._names[key] in names]

    def write(self, sample: WrittenVideo) -> None:
        """Write one video under its name."""
        write_unnoticed(self.folder / self._names[sample.key], sample.mp4)

    def finish(self, data: SkippableData, skipped: Collection[str]) -> None:
        """Nothing is left to do: every file has its name, and the manifest all names."""

    def finish_part(self, data: SkippableData, skipped: Collection[str]) -> None:
        """Say which parts are not finished: all of them write their videos into the one folder."""
        assert self.part is not None, "asked of a part"
        written, count = set(self.finished(data)), self.part.count
        parts = [Part(number, count) for number in range(1, count + 1)]
        if missing := [str(part) for part in parts if not written.issuperset(part.of(data.keys))]:
            rank_zero_info(f"videos of these parts are missing yet: {', '.join(missing)}")
        else:
            rank_zero_info(f"the videos of all {count} parts are there")

    def _manifest(self) -> dict[str, Any] | None:
        path = self.folder / MANIFEST
        content: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
        return content


def _requests(data: Any) -> Sequence[VideoRequest]:
    """All videos that are asked for, in order."""
    requests: Sequence[VideoRequest] = data.requests
    return requests
