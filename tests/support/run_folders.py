"""Folders of runs as an earlier version and several loggers wrote them: results without units, metrics and records."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest


def write_metrics(folder: Path, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True)
    names = list(dict.fromkeys(name for row in rows for name in row))
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def write_test(folder: Path, overall: float, sha256: str = "aa", skipped: dict[str, str] | None = None) -> None:
    folder.mkdir(parents=True)
    scores = {"basic_accuracy": 0.9, "halluc_accuracy": overall, "accuracy": overall}
    details = {
        "annotations": {"temporal": {"sha256": sha256}},
        "skipped": skipped or {},
        "bias": {"all": {"pct_diff": 0.25}},
        "auc": {"all": 0.875},
        "command": ["/somewhere/vidpref.py", "test", "--model.name", "two words"],
        "seed": 3,
        "git_commit": None,
        "git_dirty": None,
        "versions": {"torch": "2.15.0"},
    }
    (folder / "results.json").write_text(json.dumps({"temporal": scores, "all": scores}))
    (folder / "details.json").write_text(json.dumps(details))


def write_event_test(folder: Path, binary: float, paper: float | None = None) -> None:
    """Results of another benchmark, with intervals."""
    folder.mkdir(parents=True)
    scores = {"binary_accuracy": binary, "questions": 4}
    about: dict[str, Any] = {
        "benchmark": "EventHallusion",
        "intervals": {"level": 0.95, "of": {"entire/binary_accuracy": [0.1, 0.4], "all/binary_accuracy": [0.2, 0.75]}},
    }
    if paper is not None:
        number = {"score": "all/binary_accuracy", "paper": paper}
        about["paper"] = {"source": "VistaDPO, table 1", "numbers": [number], "not_comparable": ["another size"]}
    results = {"entire": scores, "all": scores, "about": about}
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "details.json").write_text(json.dumps({"annotations": {"entire": {"sha256": "cc"}}, "skipped": {}}))


def write_judged_test(folder: Path, unread: int) -> None:
    """Results of 40 answers that a judge read."""
    folder.mkdir(parents=True)
    about: dict[str, Any] = {
        "benchmark": "MSVD-QA",
        "intervals": {"level": 0.95, "of": {"accuracy": [0.9, 1.0], "exact_match/All": [0.1, 0.3]}},
        "unparsed": {"accuracy": [unread, 40]},
        "remarks": ["the judge was asked in other words"],
    }
    results = {"accuracy": 1.0, "exact_match": {"All": 0.2}, "about": about}
    (folder / "results.json").write_text(json.dumps(results))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A run that was only tested."""
    write_test(tmp_path / "base" / "test", 0.25)
    return tmp_path / "base"


@pytest.fixture
def vista(tmp_path: Path) -> Path:
    """A run that was stopped after step 3, resumed after step 1, validated and tested."""
    folder = tmp_path / "vista"
    first = [{"step": step, "train/loss": 2.0 - step / 10, "train/loss/video": 0.7} for step in range(4)]
    write_metrics(folder / "fit" / "version_0", [*first, {"step": 3, "val/rewards/accuracies": 0.5}])
    second = [
        {"step": step, "train/loss": 1.0, "train/loss/video": 0.6, "train/loss/late": 0.1} for step in range(2, 5)
    ]
    write_metrics(folder / "fit" / "version_10", [*second, {"step": 4, "val/rewards/accuracies": 0.75}])
    write_metrics(folder / "fit" / "version_2", [{"step": 9, "train/data_wait": 0.1}])
    record = {"command": ["vidpref", "fit"], "git_commit": "abc123", "git_dirty": True, "versions": {"peft": "0.21"}}
    (folder / "fit" / "version_10" / "run.json").write_text(json.dumps(record))
    (folder / "fit" / "version_10" / "config.yaml").write_text("# lightning\nseed_everything: 11\ntrainer:\n")
    write_test(folder / "test", 0.5)
    return folder
