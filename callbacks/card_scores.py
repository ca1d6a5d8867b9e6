"""The results of benchmarks that were measured with an export, for its card."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from datamodules.stream.predict_outputs import CONTENTS
from lightning_modules.file_contents import contents_of

# As benchmarks/base writes them; folders import one way, so the names are here as well.
RESULTS, SETTINGS, ABOUT = "results.json", "answers.settings.json", "about"


@dataclass(frozen=True, slots=True)
class BenchmarkScore:
    """Score of a benchmark.

    Attributes:
        benchmark: its title.
        address: which of its numbers, "PART/SCORE".
        value: as the results have it.
        interval: its ends; None = none was drawn.
        level: what share of resampled values lies within the interval.
        protocol: how it was measured: what it is marked as (a proxy), protocol, judge, limit.
    """

    benchmark: str
    address: str
    value: float
    interval: tuple[float, float] | None
    level: float | None
    protocol: str


def benchmark_scores(export: Path, folders: Sequence[Path]) -> tuple[list[BenchmarkScore], list[Path]]:
    """The headline scores that were measured with an export, and the results below the folders that were not.

    Results are of an export where the weights that they recorded hold what those of the export hold: a path alone does
    not say so, as a later training writes others under the same name. Scores of videos are of the weights that the
    videos were sampled with, as the manifest of their folder said when they were scored.

    Args:
        export: the folder of the export.
        folders: in which results are looked for, at any depth.
    """
    content = contents_of(SimpleNamespace(export=str(export)))["export"]
    paths = sorted({path for folder in folders for path in folder.rglob(RESULTS)})
    others = [path for path in paths if content not in _recorded_contents(path)]
    scores = [score for path in paths if path not in others for score in _scores(_json(path))]
    return scores, others


def _recorded_contents(path: Path) -> list[str]:
    """The hashes of weights that results were measured with: of who answered, or of who made the videos."""
    settings = path.with_name(SETTINGS)
    about = _json(path).get(ABOUT, {})
    scored = [about.get("videos"), *about.get("annotations", {}).values()]
    makers = [videos.get("made_from") for videos in scored if isinstance(videos, Mapping)]
    answered = _json(settings) if settings.is_file() else {}
    policies = [made.get("policy") for made in (answered, *makers) if isinstance(made, Mapping)]
    contents = [policy.get(CONTENTS) or {} for policy in policies if isinstance(policy, Mapping)]
    return [value for hashes in contents for value in hashes.values() if isinstance(value, str)]


def _scores(results: Mapping[str, Any]) -> Iterator[BenchmarkScore]:
    about = results.get(ABOUT, {})
    intervals = about.get("intervals", {})
    facts = [str(about["protocol"])] if about.get("protocol") else []
    facts += [f"judge {about['judge']}"] if about.get("judge") else []
    what = "videos" if "videos" in about else "questions"
    facts += [f"the first {about['limit']} {what} only"] if about.get("limit") else []
    facts += [f"{about['left_out']} {what} left out"] if about.get("left_out") else []
    for address in about.get("headlines") or intervals.get("of", {}):
        value: Any = results
        for name in address.split("/"):
            value = value.get(name) if isinstance(value, Mapping) else None
        if isinstance(value, int | float) and not isinstance(value, bool):
            ends = intervals.get("of", {}).get(address)
            interval = None if ends is None else (float(ends[0]), float(ends[1]))
            level, mark = intervals.get("level"), about.get("marks", {}).get(address)
            # Before the protocol: a proxy's number is not what its name says.
            how = "; ".join([f"marked: {mark}", *facts] if mark else facts)
            yield BenchmarkScore(str(about.get("benchmark")), address, float(value), interval, level, how)


def _json(path: Path) -> dict[str, Any]:
    """The content of a JSON file.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}; run the benchmark again, or move the file away") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object; run the benchmark again, or move the file away")
    return content
