"""Who answers a benchmark's questions, and how two answerers are told apart, so that their answers are never mixed."""

from __future__ import annotations

from typing import Any, NamedTuple

from datamodules.stream.predict_outputs import CONTENTS
from lightning_modules.file_contents import contents_of
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
    """The policy's class, its plain settings, and a hash of the files they name, which changes when these do."""
    plain = {name: value for name, value in vars(policy).items() if isinstance(value, bool | int | float | str)}
    kept = {name: value for name, value in plain.items() if not name.startswith("_") and name != "training"}
    return {"class": type(policy).__qualname__, **kept, CONTENTS: contents_of(policy)}
