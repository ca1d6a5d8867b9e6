"""The JSON files that VBench's own scripts read and write: scores of a folder, and its list of prompts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.vbench.rules import aggregate
from benchmarks.vbench.scores import VideoRecord, folder_scores
from datamodules.questions.files import listed
from datamodules.questions.folder_names import Asked
from datamodules.questions.video_folder import FolderVideo, by_prompt
from datamodules.user_files import user_file

#: Cosines of a video with a text, which may be negative.
COSINES = ("appearance_style", "temporal_style", "overall_consistency")


def eval_results(videos: Mapping[str, VideoRecord], paths: Mapping[str, Path]) -> dict[str, Any]:
    """The content of `NAME_eval_results.json`: dimension -> [score, [{"video_path", "video_results", ...}]].

    Args:
        videos: name -> {"frames", "scores"}.
        paths: name -> the video's file.
    """
    content = {}
    for dimension, score in folder_scores(videos).items():
        rows = []
        for name, video in videos.items():
            if dimension in video["scores"]:
                details = {key: value for key, value in video["scores"][dimension].items() if key != "score"}
                result = video["scores"][dimension]["score"]
                if dimension == "background_consistency":
                    # The published script sums over pairs of frames and keeps the sum, too.
                    num_pairs = video["frames"] - 1
                    details = {"video_sim": result * num_pairs, "cnt_per_video": num_pairs}
                rows.append({"video_path": str(paths[name]), "video_results": result, **details})
        content[dimension] = [score, rows]
    return content


def full_info(
    videos: Mapping[str, FolderVideo], asked: Mapping[str, Asked] | None, dimensions: Iterable[str]
) -> list[dict[str, Any]]:
    """The content of `NAME_full_info.json`: VBench's list of prompts, each with its videos.

    Args:
        videos: file name -> the video.
        asked: prompt -> its entries in VBench's own list; None or without entries = one is made for each prompt.
        dimensions: what the entries that are made here name.
    """
    content: list[dict[str, Any]] = []
    for prompt, samples in by_prompt(videos).items():
        files = [str(video.path) for video in samples]
        entries = asked[prompt].entries if asked else ()
        entries = entries or ({"prompt_en": prompt, "dimension": list(dimensions)},)
        content += [{**entry, "video_list": files} for entry in entries]
    return content


def read_eval_results(path: Path) -> dict[str, float]:
    """Dimension -> raw score of a file that VBench's scripts wrote.

    Raises:
        ValueError: no such file, another content, or numbers that are no raw scores: 70.9 is one in percent.
    """
    try:
        content = json.loads(user_file(path).read_bytes())
        scores = {name.replace(" ", "_"): score_and_videos[0] for name, score_and_videos in content.items()}
    except OSError as error:
        raise ValueError(f"{path}: no such file; give an *_eval_results.json of VBench") from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: is not of the form {{dimension: [score, videos]}} ({error!r})") from error
    try:
        aggregate(dict.fromkeys(scores, 0.0))  # refuses names of other dimensions
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    faults = []
    for name, score in scores.items():
        is_number = isinstance(score, int | float) and not isinstance(score, bool)
        least = -1 if name in COSINES else 0
        # With some slack, because a mean of float32 numbers may be a little above 1; NaN is in no range.
        if not (is_number and least - 1e-6 <= score <= 1 + 1e-6):
            faults.append(f"{name} is {score!r}")
    if faults:
        raise ValueError(
            f"{path}: raw scores of VBench are numbers from 0 to 1, cosines with a text from -1; "
            f"these are not:{listed(faults)}"
        )
    return {name: float(score) for name, score in scores.items()}


def merged_results(paths: Sequence[Path]) -> dict[str, tuple[float, Path]]:
    """Dimension -> raw score and the file that it is from, of several files that VBench's scripts wrote.

    Raises:
        ValueError: as `read_eval_results`, or two files that give one dimension different scores.
    """
    merged: dict[str, tuple[float, Path]] = {}
    faults = []
    for path in paths:
        for name, score in read_eval_results(path).items():
            earlier, first = merged.setdefault(name, (score, path))
            if earlier != score:
                faults.append(f"{name} is {earlier} in {first} and {score} in {path}")
    if faults:
        raise ValueError(f"files to merge disagree; give one file for each dimension:{listed(faults)}")
    return merged
