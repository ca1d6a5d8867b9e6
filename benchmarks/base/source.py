"""Who answers a benchmark's questions, and how two answerers are told apart, so that their answers are never mixed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from lightning_modules.policies.video_llm import VideoLLM


class Source(NamedTuple):
    """Who answers, and where everything goes.

    Attributes:
        policy: the model that answers, with or without an adapter; None with `predictions`.
        output: the folder for answers and results.
        predictions: answers made elsewhere; None with `policy`.
        name: what files of predictions are called after.
        max_new_tokens: the longest answer, in tokens.
        fresh: forget the answers that an earlier start left in `output`.
        paper: a row of a published table, "PAPER/TABLE/ROW", that is printed beside the results.
    """

    policy: VideoLLM | None
    output: str
    predictions: str | None
    name: str
    max_new_tokens: int
    fresh: bool
    paper: str | None


def policy_settings(policy: VideoLLM) -> dict[str, Any]:
    """The policy's class, its plain settings, and a stamp of the files they name, which changes when these do."""
    plain = {name: value for name, value in vars(policy).items() if isinstance(value, bool | int | float | str)}
    kept = {name: value for name, value in plain.items() if not name.startswith("_") and name != "training"}
    files = {name: Path(value) for name, value in kept.items() if isinstance(value, str) and value}
    stamps = {name: _stamp(path) for name, path in files.items() if len(str(path)) < 4096 and path.exists()}
    return {"class": type(policy).__qualname__, **kept, "files": stamps}


def _stamp(path: Path) -> str:
    """Of the names, sizes and times of a file or of all files in a folder; weights are too large to read for this."""
    files = sorted(one for one in ([path] if path.is_file() else path.rglob("*")) if one.is_file())
    facts = [(str(one.relative_to(path)), one.stat().st_size, one.stat().st_mtime_ns) for one in files]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
