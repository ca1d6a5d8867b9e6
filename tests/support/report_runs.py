"""Small runs for reports: results with intervals and units as benchmarks write them, and loss curves."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.base.bootstrap import LEVEL, RESAMPLES, Pool, intervals, recorded_units
from benchmarks.base.paper_protocol import Protocol
from benchmarks.base.paper_tables import find_row
from benchmarks.base.results import write_units

QUESTIONS = 40


def answers(skill: float, seed: int = 0, questions: int = QUESTIONS) -> np.ndarray:
    """(questions, 1) which are right: those whose difficulty, alike for all runs of a seed, is below the skill."""
    return (np.random.default_rng(seed).random((questions, 1)) < skill).astype(float)


def write_run(folder: Path, benchmark: str, right: Mapping[str, np.ndarray], **more: Any) -> None:
    """A finished test with a part for each array, its mean "all", and whatever belongs under "about".

    Args:
        folder: of the test.
        benchmark: its name.
        right: part -> (questions, 1) which are right.
        more: for "about"; "names" = the scores, "numbers" = further results, "paper" = the address of a published row,
            "asked" = what tells the questions from others.
    """
    folder.mkdir(parents=True)
    names: Sequence[str] = more.pop("names", ["accuracy"])
    numbers, asked, paper = more.pop("numbers", {}), more.pop("asked", benchmark), more.pop("paper", None)
    hits = {part: np.repeat(share, len(names), axis=1) for part, share in right.items()}
    with recorded_units() as units:
        bounds = intervals(
            hits,
            {part: np.ones_like(values) for part, values in hits.items()},
            names,
            {"all": Pool(list(hits), "mean")},
        )
    results: dict[str, Any] = {part: dict.fromkeys(names, float(share.mean())) for part, share in right.items()}
    results["all"] = dict.fromkeys(names, float(np.mean([share.mean() for share in right.values()])))
    results |= numbers
    about: dict[str, Any] = {
        "benchmark": benchmark,
        "intervals": {"level": LEVEL, "resamples": RESAMPLES, "seed": 0, "of": bounds},
        **more,
    }
    if paper is not None:
        protocol = Protocol(annotations={part: part for part in right}, parameters=7e9)
        about["paper"] = find_row(paper).compared(benchmark, results, protocol)
    details = {
        "annotations": {part: {"sha256": part} for part in right},
        "skipped": {},
        "command": ["vidpref", "test", "--config", f"configs/benchmarks/{benchmark.lower()}.yaml", "--model.name", "x"],
        "seed": 0,
        "versions": {"torch": "2.9", "transformers": "5.0"},
    }
    write_units(folder, [(asked, part) for part in right], units)
    (folder / "results.json").write_text(json.dumps({**results, "about": about}))
    (folder / "details.json").write_text(json.dumps(details))


def write_vbench(folder: Path, scores: Mapping[str, float], **more: Any) -> None:
    """A folder of videos scored by proxies, with a merged dimension."""
    hits = {name: np.linspace(2 * score - 1, 1.0, 20)[:, None] for name, score in scores.items()}
    folder.mkdir(parents=True)
    with recorded_units() as units:
        bounds = intervals(hits, {part: np.ones_like(values) for part, values in hits.items()}, [""], {})
    numbers = {**scores, "scene": 0.5, "mean_flow": 3.456, "of_proxies": {"quality": 0.81}}
    about: dict[str, Any] = {
        "benchmark": "VBench",
        "intervals": {"level": LEVEL, "of": {address.strip("/"): ends for address, ends in bounds.items()}},
        "networks": {"dynamic_degree": {"proxy": True}, "temporal_flickering": {"proxy": False}},
        "headlines": [*scores, "scene", "mean_flow", "of_proxies/quality"],
        "marks": {"dynamic_degree": "proxy", "scene": "merged", "mean_flow": "proxy",
                  "of_proxies/quality": "of proxies, not VBench's"},
        "remarks": ["dynamic_degree: a proxy, OpenCV DIS medium in place of RAFT"],
        **more,
    }  # fmt: skip
    write_units(folder, [("videos",)], units)
    (folder / "results.json").write_text(json.dumps({**numbers, "about": about}))
    (folder / "details.json").write_text(json.dumps({"command": ["vidpref", "test"], "versions": {"torch": "2.9"}}))


def write_curves(folder: Path, terms: Sequence[str], steps: int = 40, rate: float = 0.05) -> None:
    """A fit's metrics with these terms beside the total."""
    folder.mkdir(parents=True)
    names = ["train/loss", *(f"train/loss/{term}" for term in terms)]
    noise = np.random.default_rng(len(terms)).normal(0, 0.03, (steps, len(names)))
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["step", *names, "val/rewards/accuracies"])
        writer.writeheader()
        for step in range(steps):
            losses = 0.69 * np.exp(-rate * step) + noise[step]
            writer.writerow({"step": step, **dict(zip(names, losses.tolist(), strict=True))})
        writer.writerow({"step": steps - 1, "val/rewards/accuracies": 0.75})


def write_world(folder: Path, names: Sequence[str] = ("base", "dpo", "vista")) -> list[Path]:
    """Runs of rising skill on several benchmarks; all but the first were trained."""
    for number, name in enumerate(names):
        skill = 0.4 + 0.15 * number
        hallucer = {part: answers(skill, seed) for seed, part in enumerate(("obj_rel", "temporal", "semantic"))}
        scores = ["basic_accuracy", "halluc_accuracy", "accuracy"]
        row = "vista_dpo/table1/Video-LLaVA + VistaDPO"
        write_run(folder / name / "hallucer", "VideoHallucer", hallucer, names=scores, paper=row)
        details = folder / name / "hallucer" / "details.json"
        bias = {"bias": {"all": {"pct_diff": 0.3 - number / 10}}, "auc": {"all": 0.7 + number / 10}}
        details.write_text(json.dumps(json.loads(details.read_text()) | bias))
        tasks = {"action_count": answers(skill, 7), "state_change": answers(skill, 8)}
        remarks = ["asked with lmms-eval's prompt: compares with numbers that lmms-eval made, not with the benchmark's "
                   "own leaderboard and paper"]  # fmt: skip
        paper = "vista_dpo/table6/Video-LLaVA + VistaDPO"
        write_run(folder / name / "mvbench", "MVBench", tasks, paper=paper, remarks=remarks)
        judged = {"correctness": 3 * answers(skill, 9), "detail": 3 * answers(skill, 10)}
        write_run(folder / name / "chat", "Video-ChatGPT", judged, names=["average_score"],
                  unparsed={"all/average_score": [number, 80]})  # fmt: skip
        if number:
            terms = ["video", "clip", "object", "token"][: 2 * number]
            write_curves(folder / name / "fit" / "version_0", terms, rate=0.02 * number)
        if number != 1:
            scored = {"dynamic_degree": 0.8 - number / 20, "temporal_flickering": 0.9 + number / 50}
            write_vbench(folder / name / "vbench", scored)
    return [folder / name for name in names]
