"""Options that all benchmarks have in common."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_modules.policies.video_llm import VideoLLM


@dataclass(frozen=True, slots=True)
class Source:
    """Source of the answers and folder of the results: the options that all benchmarks have in common.

    Args:
        policy: the model that answers, with or without an adapter; null with `predictions`.
        output: the folder for the results; an unfinished evaluation in it is continued.
        predictions: recorded answers to score again: published files, or an `answers.jsonl`; null with `policy`.
        name: part of the names of the answers' files.
        max_new_tokens: the longest answer, in tokens.
        fresh: forget the answers or scores that an earlier start left in `output`.
        paper: a row of a published table to print beside the results, as `vista_dpo/table1/Video-LLaVA + VistaDPO`.
    """

    policy: VideoLLM | None
    output: str
    predictions: str | None = None
    name: str = "policy"
    max_new_tokens: int = 32
    fresh: bool = False
    paper: str | None = None
