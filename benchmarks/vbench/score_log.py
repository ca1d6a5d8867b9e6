"""Scores of videos on disk, one JSON line a video, so that an interrupted scoring is continued."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from benchmarks.base.answers import ANSWERS_FILE, AnswerLog, unique
from benchmarks.vbench.scores import VideoRecord
from datamodules.questions.files import listed
from datamodules.questions.video_folder import FolderVideo


class ScoreLog(AnswerLog):
    """Scored videos on disk as they come: {"key": name, "asked": fingerprint of the file, "frames", "scores"}."""

    def read(self) -> dict[str, dict[str, Any]]:
        """The scored videos by name.

        Raises:
            ValueError: a file holds something else, or a video twice.
        """
        scored: dict[str, dict[str, Any]] = {}
        for path in (self.folder / ANSWERS_FILE, *self.parts()):
            content = (
                path.read_bytes() if path.is_file() else b""
            )  # the joined file exists after a finished scoring only
            lines = content.split(b"\n")[:-1]  # a last line without an end was never finished
            try:
                records = [json.loads(line) for line in lines]
                scored |= unique([(str(record.pop("key")), _checked(record)) for record in records], path)
            except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
                raise ValueError(f"{path} holds something else than scored videos; choose another folder") from error
        return scored

    def check_videos(self, scored: Mapping[str, VideoRecord], videos: Mapping[str, FolderVideo]) -> None:
        """Refuse scores of other videos of the same names.

        Raises:
            ValueError: lists all of them.
        """
        changed = [
            key for key, record in scored.items() if key in videos and record["asked"] != videos[key].fingerprint
        ]
        if changed:
            raise ValueError(
                f"{len(changed)} videos have changed since {self.folder} was written; take another model.output, or "
                "set model.fresh: true to score all again:" + listed(changed)
            )


def _checked(record: dict[str, Any]) -> dict[str, Any]:
    """The record with each field in its type; raises a KeyError or TypeError where one lacks or is something else."""
    return {**record, "asked": str(record["asked"]), "frames": int(record["frames"]), "scores": dict(record["scores"])}
