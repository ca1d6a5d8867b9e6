"""From scored videos to VBench's numbers: dimensions of a folder, their intervals, and the files that VBench reads."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.base.answer_metric import AnswerMetric
from benchmarks.base.answers import ANSWERS_FILE, AnswerLog, unique
from benchmarks.base.bootstrap import Intervals, intervals
from benchmarks.base.results import OF_PROXIES
from benchmarks.vbench.rules import DIMENSIONS, aggregate
from datamodules.questions.files import listed
from datamodules.questions.folder_names import Asked
from datamodules.questions.video_folder import FolderVideo, by_prompt

#: A scored video: {"frames": how many, "scores": dimension -> {"score": ..., ...}}.
Record = Mapping[str, Any]
#: A video weighs as many as its pairs of neighbouring frames.
PAIR_WEIGHTED = ("subject_consistency", "background_consistency")
#: The score of a video is 0 to 100, that of a folder 0 to 1.
PERCENT = ("imaging_quality",)
#: Cosines of a video with a text, which may be negative.
COSINES = ("appearance_style", "temporal_style", "overall_consistency")
#: So many static videos of each prompt count for temporal flickering; VBench makes 25 to find them.
STATIC_VIDEOS = 5


def folder_scores(videos: Mapping[str, Record]) -> dict[str, float]:
    """The raw score of each dimension that some video has, in [0, 1] and in the published order.

    The mean over videos, but for both consistencies: there every pair of neighbouring frames counts once, and where a
    score has a "frame_count": there every frame does. So does the published script in one process; with several it
    takes the plain mean for the subject and for relations.

    Args:
        videos: name -> {"frames", "scores"}.
    """
    found = {}
    for name in DIMENSIONS:
        scored = [one for one in videos.values() if name in one["scores"]]
        if scored:
            weights = [_weight(name, one) for one in scored]
            found[name] = float(np.average([_raw(name, one) for one in scored], weights=weights))
    return found


def _raw(dimension: str, video: Record) -> float:
    score = float(video["scores"][dimension]["score"])
    return score / 100 if dimension in PERCENT else score


def _weight(dimension: str, video: Record) -> int:
    pairs = video["frames"] - 1 if dimension in PAIR_WEIGHTED else 1
    return int(video["scores"][dimension].get("frame_count", pairs))


def static_only(videos: Mapping[str, Record], prompts: Mapping[str, str]) -> dict[str, Record]:
    """The videos with temporal flickering left only to the first static ones of each prompt; "not_static" marks others.

    Args:
        videos: name -> {"frames", "scores"}, sorted by name; scores without "static" stay.
        prompts: name -> what the video was made from.
    """
    counted, found = Counter[str](), dict(videos)
    for video, one in videos.items():
        static = one["scores"].get("temporal_flickering", {}).get("static")
        counted[prompts[video]] += bool(static)
        if static is False or (static and counted[prompts[video]] > STATIC_VIDEOS):
            rest = {name: score for name, score in one["scores"].items() if name != "temporal_flickering"}
            found[video] = {**one, "scores": rest, "not_static": True}
    return found


def with_observed(
    videos: Mapping[str, Record],
    observed: Mapping[str, Mapping[str, Any]],
    folder: Mapping[str, FolderVideo],
    skipped: Container[str],
) -> dict[str, Record]:
    """The videos with the scores of what was seen in them, and those that have no others, in the folder's order.

    Args:
        videos: name -> {"frames", "scores"}.
        observed: name -> dimension -> {"score", ...}.
        folder: name -> the video.
        skipped: names of those that are left out.
    """
    found: dict[str, Record] = {}
    for name, video in folder.items():
        scores = {**videos.get(name, {"scores": {}})["scores"], **observed.get(name, {})}
        if name not in skipped and (name in videos or scores):
            found[name] = {"frames": video.facts.frames, **videos.get(name, {}), "scores": scores}
    return found


def mean_flow(videos: Mapping[str, Record]) -> float | None:
    """How far videos move, the mean over videos of their flow scores in pixels; None where flow was not measured."""
    flows = [one["scores"]["dynamic_degree"]["flow"] for one in videos.values() if "dynamic_degree" in one["scores"]]
    return float(np.mean(flows)) if flows else None


def score_intervals(videos: Mapping[str, Record], prompts: Mapping[str, str], seed: int) -> Intervals:
    """The bootstrap interval of each dimension; prompts are drawn again, with all of their videos.

    Args:
        videos: name -> {"frames", "scores"}.
        prompts: name -> what the video was made from.
        seed: of the draws.
    """
    found: Intervals = {}
    for name in folder_scores(videos):
        hits: dict[str, float] = {}
        counts: dict[str, float] = {}
        for video, one in videos.items():
            if name in one["scores"]:
                weight, prompt = _weight(name, one), prompts[video]
                hits[prompt] = hits.get(prompt, 0.0) + weight * _raw(name, one)
                counts[prompt] = counts.get(prompt, 0.0) + weight
        of = [{name: np.array(list(one.values()))[:, None]} for one in (hits, counts)]
        found[name] = intervals(of[0], of[1], [""], {}, seed)[f"{name}/"]
    return found


def totals(raw: Mapping[str, float]) -> dict[str, float]:
    """Quality, semantic and total, each only where nothing that it is made of is missing."""
    whole = aggregate(raw)
    lacking = {DIMENSIONS[name].group for name in whole["missing"]}
    found = {group: whole[group] for group in ("quality", "semantic") if group not in lacking}
    return found if lacking else {**found, "total": whole["total"]}


def folder_results(
    videos: Mapping[str, Record],
    merged: Mapping[str, float],
    missing: Mapping[str, str],
    proxies: Container[str] = (),
) -> dict[str, Any]:
    """The numbers; a dimension without a score is named under "missing" and has none.

    Quality, semantic and total are VBench's only where no dimension of theirs is a proxy; those of proxies stand under
    "of_proxies", where nobody takes them for the published ones.

    Args:
        videos: name -> {"frames", "scores"}.
        merged: dimension -> raw score from elsewhere, where no video has one.
        missing: dimension -> why it is not measured.
        proxies: dimensions that something else than the published network measured.
    """
    own = {**merged, **folder_scores(videos)}
    raw = {name: own[name] for name in DIMENSIONS if name in own}
    flow = mean_flow(videos)
    lacking = {
        name: missing.get(name, "no video has a prompt for it, or none counts")
        for name in DIMENSIONS
        if name not in raw
    }
    whole = totals(raw)
    groups = {DIMENSIONS[name].group for name in raw if name in proxies}
    mixed = {name: score for name, score in whole.items() if name in groups or (name == "total" and groups)}
    numbers = raw | ({} if flow is None else {"mean_flow": flow})
    numbers |= {name: score for name, score in whole.items() if name not in mixed}
    return {**numbers, **({OF_PROXIES: mixed} if mixed else {}), "missing": lacking}


def number_marks(
    results: Mapping[str, Any],
    proxies: Container[str],
    merged: Iterable[str],
    observed: Container[str],
) -> dict[str, str]:
    """Address -> mark of every number that is not VBench's own measurement by this program; see `results.marks`."""
    found = {name: "proxy" for name in DIMENSIONS if name in results and name in proxies}
    found |= {name: "merged" for name in merged if name in results}
    found |= {name: "from observations" for name in DIMENSIONS if name in results and name in observed}
    if "mean_flow" in results and "dynamic_degree" in proxies:
        found["mean_flow"] = "proxy"
    return found | {f"{OF_PROXIES}/{name}": "of proxies, not VBench's" for name in results.get(OF_PROXIES, {})}


def headline_addresses(results: Mapping[str, Any]) -> list[str]:
    """All numbers that a reader is shown: dimensions, mean flow, and the totals that there are."""
    names = [*DIMENSIONS, "mean_flow", "quality", "semantic", "total"]
    return [name for name in names if name in results] + [f"{OF_PROXIES}/{one}" for one in results.get(OF_PROXIES, {})]


def eval_results(videos: Mapping[str, Record], paths: Mapping[str, Path]) -> dict[str, Any]:
    """What VBench's scripts read: dimension -> [score, [{"video_path", "video_results", ...}]].

    Args:
        videos: name -> {"frames", "scores"}.
        paths: name -> the video's file.
    """
    found = {}
    for name, score in folder_scores(videos).items():
        rows = []
        for video, one in videos.items():
            if name in one["scores"]:
                more = {key: value for key, value in one["scores"][name].items() if key != "score"}
                result = one["scores"][name]["score"]
                if name == "background_consistency":
                    count = one["frames"] - 1
                    more = {"video_sim": result * count, "cnt_per_video": count}
                rows.append({"video_path": str(paths[video]), "video_results": result, **more})
        found[name] = [score, rows]
    return found


def full_info(
    videos: Mapping[str, FolderVideo], asked: Mapping[str, Asked] | None, dimensions: Iterable[str]
) -> list[dict[str, Any]]:
    """VBench's list of prompts with their videos: its own entries where it gave the list, else one for each prompt."""
    found: list[dict[str, Any]] = []
    for prompt, same in by_prompt(videos).items():
        files = [str(one.path) for one in same]
        entries = asked[prompt].entries if asked else ()
        entries = entries or ({"prompt_en": prompt, "dimension": list(dimensions)},)
        found += [{**one, "video_list": files} for one in entries]
    return found


def remarks(results: Mapping[str, Any], about: Mapping[str, Any]) -> list[str]:
    """What a person must know beside the numbers: proxies, what is merged, missing and left out."""
    lines = [
        f"{name}: {'a proxy, ' if one['proxy'] else ''}{'; '.join(one['differs'])}."
        for name, one in about["networks"].items()
        if one["differs"]
    ]
    if "mean_flow" in results:
        lines.append(f"mean flow: {results['mean_flow']:.2f} pixels between frames that are about 1/8 second apart.")
    for path in dict.fromkeys(about.get("merged", {}).values()):
        names = ", ".join(name for name, source in about["merged"].items() if source == path)
        lines.append(f"merged from {path}: {names}.")
    if mixed := results.get(OF_PROXIES):
        lines.append(f"{', '.join(mixed)}: made of proxies too, so that they are not VBench's and compare with none.")
    for why in dict.fromkeys(results["missing"].values()):
        names = ", ".join(name for name, one in results["missing"].items() if one == why)
        lines.append(f"missing ({why}): {names}.")
    if about["not_static"]:
        lines.append(
            f"temporal_flickering: {about['not_static']} videos do not count: they move, or come after the first "
            f"{STATIC_VIDEOS} of their prompt that stand still."
        )
    if about["left_out"]:
        lines.append(f"{about['left_out']} videos were left out; details.json names them and says why.")
    return lines


def read_eval_results(path: Path) -> dict[str, float]:
    """Dimension -> raw score of a file that VBench's scripts wrote.

    Raises:
        ValueError: no such file, another content, or scores that no raw score can be: 70.9 is one in percent.
    """
    try:
        content = json.loads(path.read_bytes())
        found = {name.replace(" ", "_"): one[0] for name, one in content.items()}
    except OSError as error:
        raise ValueError(f"{path}: no such file; give an *_eval_results.json of VBench") from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path}: is not of the form {{dimension: [score, videos]}} ({error!r})") from error
    try:
        aggregate(dict.fromkeys(found, 0.0))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    faults = [f"{name} is {score!r}" for name, score in found.items() if not _is_raw(name, score)]
    if faults:
        raise ValueError(
            f"{path}: raw scores of VBench are numbers from 0 to 1, cosines with a text from -1; "
            f"these are not:{listed(faults)}"
        )
    return {name: float(score) for name, score in found.items()}


def _is_raw(dimension: str, score: Any) -> bool:
    """Whether a dimension can have this raw score; NaN is in no range. The yes or no of one video is no score."""
    if isinstance(score, bool) or not isinstance(score, int | float):
        return False
    slack = 1e-6  # a mean of float32 numbers may be a little above 1
    return (-1 if dimension in COSINES else 0) - slack <= score <= 1 + slack


def merged_results(paths: Sequence[Path]) -> dict[str, tuple[float, Path]]:
    """Dimension -> raw score and the file that it is from, of several files that VBench's scripts wrote.

    Raises:
        ValueError: as `read_eval_results`, or two files that give one dimension different scores.
    """
    found: dict[str, tuple[float, Path]] = {}
    faults = []
    for path in paths:
        for name, score in read_eval_results(path).items():
            earlier, first = found.setdefault(name, (score, path))
            if earlier != score:
                faults.append(f"{name} is {earlier} in {first} and {score} in {path}")
    if faults:
        raise ValueError(f"files to merge disagree; give one file for each dimension:{listed(faults)}")
    return found


class VBenchMetric(AnswerMetric):
    """`folder_scores` over videos that come one by one, in any order and from any rank.

    `update` takes name -> {"frames", "scores"}, or {"skipped": why}.
    """

    def score_items(self, items: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
        """The raw scores."""
        return folder_scores({name: one for name, one in items.items() if "skipped" not in one})


class ScoreLog(AnswerLog):
    """Scored videos on disk as they come: {"key": name, "asked": fingerprint of the file, "frames", "scores"}."""

    def read(self) -> dict[str, dict[str, Any]]:
        """The videos that are there, by name.

        Raises:
            ValueError: a file holds something else, or a video twice.
        """
        found: dict[str, dict[str, Any]] = {}
        for path in (self.folder / ANSWERS_FILE, *self.parts()):
            content = path.read_bytes() if path.is_file() else b""
            lines = content.split(b"\n")[:-1]  # a last line without an end was never finished
            try:
                records = [json.loads(line) for line in lines]
                found |= unique([(str(one.pop("key")), _checked(one)) for one in records], path)
            except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
                raise ValueError(f"{path} holds something else than scored videos; choose another folder") from error
        return found

    def check_videos(self, found: Mapping[str, Record], videos: Mapping[str, FolderVideo]) -> None:
        """Refuse scores of other videos of the same names.

        Raises:
            ValueError: lists all of them.
        """
        other = [key for key, one in found.items() if key in videos and one["asked"] != videos[key].fingerprint]
        if other:
            raise ValueError(
                f"{len(other)} videos have changed since {self.folder} was written; take another model.output, or set "
                "model.fresh: true to score all again:" + listed(other)
            )


def _checked(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "asked": str(record["asked"]), "frames": int(record["frames"]), "scores": dict(record["scores"])}
