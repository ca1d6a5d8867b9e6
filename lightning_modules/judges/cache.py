"""Replies on disk, so that no judge is asked the same question twice, by any number of processes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from datamodules.shards.files import write_whole
from lightning_modules.judges.base import JudgeQuestion, Picture


def request_key(settings: Mapping[str, Any], question: JudgeQuestion) -> str:
    """A hash of everything that the judge is asked with, and of how often it was asked the same before.

    Pictures count by their pixels, not by the bytes of an encoding, which another version of a library may change. The
    sample's key does not count: equal questions have equal replies.

    Args:
        settings: what is the same for all questions (model, sampling), plain JSON types.
        question: the question.
    """
    content = [part if isinstance(part, str) else [_picture_digest(part)] for part in question.content()]
    request = json.dumps([settings, question.system, content, question.attempt], sort_keys=True)
    return hashlib.sha256(request.encode()).hexdigest()


def _picture_digest(picture: Picture) -> str:
    if isinstance(picture, bytes):
        return hashlib.sha256(picture).hexdigest()
    pixels = picture.cpu().contiguous()
    return hashlib.sha256(f"{tuple(pixels.shape)}".encode() + pixels.numpy().tobytes()).hexdigest()


class ReplyCache:
    """One small JSON file a reply, named by its request's hash, written as a whole or not at all.

    While a question is asked its name is locked: another thread or process with the same question waits, and finds the
    reply. The lock is gone with the process that holds it.

    Args:
        folder: of the replies; made with the first of them.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def reply(self, key: str, ask: Callable[[], str]) -> tuple[str, bool]:
        """The reply to a question, and whether it was asked just now.

        Args:
            key: see `request_key`.
            ask: gets the reply from the judge; what it raises leaves the cache as it was.
        """
        path = self.folder / key[:2] / f"{key}.json"
        if (known := _read(path)) is not None:
            return known, False
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock")
        with _locked(lock):
            # Once more: the process that held the lock has asked meanwhile.
            if (known := _read(path)) is not None:
                return known, False
            reply = ask()
            write_whole(path, json.dumps({"reply": reply}).encode(), f"{path.stem}.{os.getpid()}.tmp")
            # Only now: whoever waits at this file, or makes a new one, reads the reply. Windows removes no file that is
            # open, but its lock does so on release.
            with suppress(OSError):
                lock.unlink(missing_ok=True)
        return reply, True


def _read(path: Path) -> str | None:
    """The reply in a file; None where there is none, or one that a crashed machine left empty."""
    try:
        reply = json.loads(path.read_text())["reply"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return reply if isinstance(reply, str) else None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire()
    except OSError as error:
        # Some network file systems have no locks: then two processes may ask the same at the same moment.
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
            raise
    try:
        yield
    finally:
        lock.release()
