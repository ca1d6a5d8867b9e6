"""Reading of a run's folder: benchmark results, reward accuracy, loss curves, and the records of its starts."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.base.results import ABOUT, DETAILS_FILE, RESULTS_FILE, UNITS_FILE, headlines

#: A training loss as it is logged, `train/loss` or `train/loss/<term>`.
LOSS = re.compile(r"train/loss(?:/(?P<term>\w+))?")
REWARD_ACCURACY = "val/rewards/accuracies"
#: Written by `RunRecord` at each start: command, commit, versions.
RECORD_FILE = "run.json"
METRICS_FILE = "metrics.csv"
#: The benchmark of results without a name: those of an earlier version.
HALLUCER = "VideoHallucer"


@dataclass(frozen=True, slots=True)
class Curve:
    """Curve of a quantity over optimizer steps."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Tested:
    """Test of a run on one benchmark.

    Attributes:
        benchmark: its name.
        results: the published result format.
        about: what the numbers belong to, with intervals; empty in results of an earlier version.
        details: everything else that the benchmark wrote.
        units: every unit's contribution to the scores, see `benchmarks.base.results.write_units`; empty in results of
            an earlier version.
    """

    benchmark: str
    results: dict[str, Any]
    about: dict[str, Any]
    details: dict[str, Any]
    units: dict[str, Any] = field(default_factory=dict)

    @property
    def intervals(self) -> dict[str, list[float]]:
        """Headline number's address -> [low, high]."""
        ends: dict[str, list[float]] = self.about.get("intervals", {}).get("of", {})
        return ends

    @property
    def headlines(self) -> list[str]:
        """The addresses of the numbers that a reader is shown."""
        return headlines(self.results, self.about)

    @property
    def unparsed(self) -> dict[str, list[int]]:
        """Headline number's address -> [unread replies of the judge, all of them]; empty = no judge was asked."""
        counts: dict[str, list[int]] = self.about.get("unparsed", {})
        return counts


@dataclass(frozen=True, slots=True)
class Run:
    """Run of a model, one row of a report.

    Attributes:
        name: the folder's name, or as much of its path as makes it differ from other runs (`read_runs`).
        folder: the run's folder.
        tests: benchmark -> its results; empty = not tested.
        reward_accuracy: the last one on held-out pairs; None = not validated.
        curves: term -> loss, "total" for the weighted sum; empty = not trained.
        records: command, seed, commit and versions of each start.
    """

    name: str
    folder: Path
    tests: dict[str, Tested]
    reward_accuracy: float | None
    curves: dict[str, Curve]
    records: list[dict[str, Any]]

    @property
    def results(self) -> dict[str, dict[str, float]] | None:
        """VideoHallucer's, subset -> accuracies, and "all"; None = not tested on it."""
        return self.tests[HALLUCER].results if HALLUCER in self.tests else None

    @property
    def details(self) -> dict[str, Any]:
        """The details of VideoHallucer's results; empty = not tested on it."""
        return self.tests[HALLUCER].details if HALLUCER in self.tests else {}


def read_run(folder: Path) -> Run:
    """Everything in a run's folder, from all of its starts.

    Raises:
        ValueError: there is nothing to report in it, or results of more than one test on the same benchmark.
    """
    metrics = sorted(folder.rglob(METRICS_FILE), key=_start)
    results = [(path, _tested(path)) for path in sorted(folder.rglob(RESULTS_FILE))]
    if not metrics and not results:
        raise ValueError(f"{folder} holds neither {RESULTS_FILE} nor {METRICS_FILE}; give the folder of a run")
    tests = {test.benchmark: test for _, test in results}
    if len(tests) < len(results):
        listed = ", ".join(f"{path.parent} ({test.benchmark})" for path, test in results)
        raise ValueError(f"{folder} holds the results of several tests on one benchmark; give one of {listed}")
    # The last value of the last start: `metrics` is sorted by start, validations after fits.
    accuracies = [value for path in metrics for _, value in _series(path, REWARD_ACCURACY)]
    return Run(
        name=folder.resolve().name,
        folder=folder,
        tests=tests,
        reward_accuracy=accuracies[-1] if accuracies else None,
        curves=_curves(metrics),
        records=[_record(path) for path in sorted(folder.rglob(RECORD_FILE), key=_start)],
    )


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Several runs with distinct names: `base/test` and `vista/test` where both folders are called `test`.

    Raises:
        ValueError: as `read_run`, or a folder that is given twice.
    """
    names = _distinct_names([folder.resolve() for folder in folders])
    return [replace(read_run(folder), name=name) for folder, name in zip(folders, names, strict=True)]


def _distinct_names(folders: Sequence[Path]) -> list[str]:
    """The shortest end of each path that no other path has."""
    if twice := next((folder for folder in folders if folders.count(folder) > 1), None):
        raise ValueError(f"{twice} is given twice")
    ends = [["/".join(folder.parts[-count:]) for count in range(1, len(folder.parts) + 1)] for folder in folders]
    # The whole path is among the ends, and differs from every other, so that one is always there.
    return [next(end for end in own if sum(end in other for other in ends) == 1) for own in ends]


def _tested(path: Path) -> Tested:
    """The results in a file, with the details and units beside it."""
    results = json.loads(path.read_bytes())
    about = results.pop(ABOUT, {})
    beside = path.with_name(DETAILS_FILE)
    details = json.loads(beside.read_bytes()) if beside.is_file() else {}
    beside = path.with_name(UNITS_FILE)
    units = json.loads(beside.read_bytes()) if beside.is_file() else {}
    return Tested(about.get("benchmark") or details.get("benchmark", HALLUCER), results, about, details, units)


def _start(path: Path) -> tuple[bool, str, int]:
    """Sort key of the starts of a run: fit before validate, then the logger's version number, 10 after 9."""
    version = re.fullmatch(r"version_(\d+)", path.parent.name)
    parent = str(path.parent.parent if version else path.parent)
    return "validate" in path.parts, parent, int(version[1]) if version else -1


def _record(path: Path) -> dict[str, Any]:
    """The record of a start, with the seed from the configuration beside it."""
    record: dict[str, Any] = json.loads(path.read_bytes())
    config = path.with_name("config.yaml")
    seed = re.search(r"^seed_everything: (\d+)", config.read_text(), re.MULTILINE) if config.is_file() else None
    return record | {"seed": int(seed[1]) if seed else None}


def _curves(metrics: list[Path]) -> dict[str, Curve]:
    """Term -> its loss; where a later start repeats steps, its values count."""
    points: dict[str, dict[int, float]] = {}
    for path in metrics:
        with path.open(newline="") as file:
            names = [name for name in next(csv.reader(file), []) if LOSS.fullmatch(name)]
        for name in names:
            series = list(_series(path, name))
            match = LOSS.fullmatch(name)
            kept = points.setdefault(match["term"] or "total" if match else name, {})
            # A killed run logged steps after its last checkpoint; the resumed one has made them again.
            for step in [step for step in kept if series and step >= series[0][0]]:
                del kept[step]
            kept.update(series)
    return {term: Curve(list(kept), list(kept.values())) for term, kept in points.items() if kept}


def _series(path: Path, name: str) -> Iterator[tuple[int, float]]:
    """(step, value) of one column of a metrics file; most rows hold only some of the columns."""
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row.get(name):
                yield int(row["step"]), float(row[name])
