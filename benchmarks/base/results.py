"""A benchmark's results as JSON files: their names, addresses and marks of numbers, and the facts of the run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.cli import SaveConfigCallback

from benchmarks.base.bootstrap import LEVEL, RESAMPLES, Intervals, Units
from datamodules.shards.files import write_whole
from datamodules.shards.index import digest
from lightning_modules.run_facts import run_facts

#: The published result format of a benchmark, with what the numbers belong to under `ABOUT`; and everything else.
RESULTS_FILE = "results.json"
DETAILS_FILE = "details.json"
ABOUT = "about"
#: Every unit's contribution to the scores, for the interval of a difference between two runs.
UNITS_FILE = "units.json"
#: Addresses of numbers in pixels.
PIXELS = ("mean_flow",)
#: The key of quality, semantic and total where a proxy is among their dimensions.
OF_PROXIES = "of_proxies"


def write_json(path: Path, content: Any, indent: int | None = 2) -> None:
    """Write a JSON file so that a reader never sees half of it; without an indent where no person reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(content, indent=indent, allow_nan=False) + "\n").encode())


def number_at(results: Mapping[str, Any], address: str) -> float | None:
    """The number at an address, "PART/SCORE" or just "SCORE"; None where there is none."""
    value: Any = results
    for name in address.split("/"):
        value = value.get(name) if isinstance(value, Mapping) else None
    # A bool is an int to Python, and no score.
    return None if isinstance(value, bool) or not isinstance(value, int | float) else float(value)


def shown(address: str, value: float, percent: bool = True) -> str:
    """A number of the results as text: shares in percent, judges' scores as they are.

    Args:
        address: of the number in the results.
        value: the number.
        percent: whether the benchmark's numbers are shares; VisionReward's are within +-1 and published as they are.
    """
    if address in PIXELS:
        return f"{value:.2f}"
    if not percent:
        return f"{value:.3f}"
    return f"{value:.2f}" if address.endswith("_score") else f"{100 * value:.1f}"


def unit_of(address: str, percent: bool = True) -> str:
    """The unit of a number as `shown` writes it: %, px, the range of judges' scores, or that of a bare number."""
    if address in PIXELS:
        return "px"
    if not percent:
        return "-1 to 1"
    return "0 to 5" if address.endswith("_score") else "%"


def headlines(results: Mapping[str, Any], about: Mapping[str, Any]) -> list[str]:
    """The addresses of the numbers that a reader is shown, in order; at least those with an interval."""
    listed = about.get("headlines") or about.get("intervals", {}).get("of", {})
    return [address for address in listed if number_at(results, address) is not None]


def marks(about: Mapping[str, Any]) -> dict[str, str]:
    """Address -> mark of a number that is not what its name says: a proxy, a merged one, a total of proxies."""
    proxies = {name: "proxy" for name, network in about.get("networks", {}).items() if network.get("proxy")}
    every: dict[str, str] = proxies | about.get("marks", {})
    return every


def write_units(folder: Path, asked: Iterable[Sequence[str]], units: Sequence[Units]) -> None:
    """Write the units of which intervals were drawn beside the results.

    Args:
        folder: the output folder.
        asked: the scored questions or videos in order, each as what identifies it in another run: key and fingerprint.
        units: of every call that drew intervals.
    """
    # A hash is enough: two runs are paired only where all of their questions are the same.
    fingerprint = digest(json.dumps([list(identity) for identity in asked]).encode())
    write_json(folder / UNITS_FILE, {"asked": fingerprint, "units": [part.to_json() for part in units]}, None)


def run_about(facts: Mapping[str, Any], ends: Intervals) -> dict[str, Any]:
    """What every benchmark's numbers belong to: the run, and the intervals with how they were drawn.

    Args:
        facts: of the run, see `provenance`.
        ends: the interval of each number, drawn with the run's seed (0 without one).
    """
    intervals = {"level": LEVEL, "resamples": RESAMPLES, "seed": facts["seed"] or 0, "of": ends}
    return {name: facts[name] for name in ("seed", "versions", "git_commit", "git_dirty")} | {"intervals": intervals}


def provenance(trainer: Trainer) -> dict[str, Any]:
    """Seed, devices, command, commit, versions and configuration (None for a run that was started from Python)."""
    facts = run_facts()
    # Decoding and resizing move numbers, too; torch's own version names the CUDA build.
    libraries = {"torch": str(torch.__version__)} | {name: version(name) for name in ("torchvision", "av")}
    seed = os.environ.get("PL_GLOBAL_SEED")  # set by `seed_everything`
    # The configuration that the command line resolved, as plain types.
    configs = (
        yaml.safe_load(callback.parser.dump(callback.config, skip_none=False))
        for callback in trainer.callbacks  # type: ignore[attr-defined]
        if isinstance(callback, SaveConfigCallback)
    )
    return {
        **facts,
        "versions": facts["versions"] | libraries,
        "seed": None if seed is None else int(seed),
        "devices": f"{trainer.world_size} x {type(trainer.accelerator).__name__.removesuffix('Accelerator')}",
        "precision": trainer.precision,
        "config": next(configs, None),
    }
