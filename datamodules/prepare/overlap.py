"""`vidpref prepare overlap`: the videos that training shards and a benchmark both hold."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from datamodules.questions.overlap import SAME_BITS, Shared, shared_by_frames, shared_by_id
from datamodules.questions.video_names import benchmark_names


def prepare_overlap(
    indexes: list[str],
    questions: str | None = None,
    videos: str | None = None,
    output: str | None = None,
    same_bits: float = SAME_BITS,
    mapping: str | None = None,
) -> list[Shared]:
    """List the videos that training shards and a benchmark share, by name and by what their frames show.

    VistaDPO's training videos and the question-answering benchmarks have sources in common (MSVD, MSRVTT, ActivityNet).

    Args:
        indexes: NAME.index.json files of the training shards.
        questions: the benchmark's annotations: a published file, JSON or TGIF-QA's table, or a folder of them; compares
            names.
        videos: the benchmark's folder of videos; compares the frames of every video with those in the shards.
        output: a JSONL file for the list; null = only show it.
        same_bits: differing bits of 64, mean over five frames, up to which two videos are the same.
        mapping: MSVD's youtube_mapping.txt, where your videos are called by their clips' names and not vidN.

    Raises:
        ValueError: neither questions nor videos are given, a mapping without questions, or a file cannot be read.
    """
    if questions is None and videos is None:
        raise ValueError("give --questions (compares names), --videos (compares frames), or both")
    if mapping is not None and questions is None:
        raise ValueError("--mapping belongs to --questions, MSVD-QA's annotations; give them too")
    console = Console(highlight=False, soft_wrap=True)
    shared: list[Shared] = []
    if questions is not None:
        shared += shared_by_id(indexes, benchmark_names([questions], mapping))
    # Names first, which takes seconds: frames are decoded video by video.
    if videos is not None:
        with console.status("comparing frames"):
            shared += shared_by_frames(indexes, videos, same_bits, console.print)
    for pair in shared:
        how = "the same name" if pair.bits is None else f"the same frames ({pair.bits:.1f} of 64 bits differ)"
        console.print(f"{pair.train} and {pair.benchmark}: {how}")
    console.print(f"{len(shared)} samples share a video with the benchmark")
    if output is not None:
        Path(output).write_text("".join(json.dumps(pair.to_json()) + "\n" for pair in shared), encoding="utf-8")
    return shared
