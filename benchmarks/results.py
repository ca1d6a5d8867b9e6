"""What a benchmark leaves behind: JSON files that appear whole or not at all, and where the numbers come from."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.cli import SaveConfigCallback

#: The packages whose versions can move a number.
PACKAGES = ("vidpref", "torch", "torchvision", "transformers", "peft", "lightning", "av", "numpy")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file so that a reader never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.tmp{os.getpid()}")
    unfinished.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    unfinished.replace(path)


def versions() -> dict[str, str]:
    """Python and the packages whose versions can move a number; a package that is not installed is left out."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    found["torch"] = str(torch.__version__)  # with the build, "+cu130"
    return found


def git_commit() -> str | None:
    """The commit of this checkout, with "+changes" when files differ from it; None outside a repository."""
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return f"{commit}+changes" if git("status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.CalledProcessError):
        return None


def run_config(trainer: Trainer) -> Any:
    """The configuration that the command line resolved, as plain types; None when the run was started from Python."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, SaveConfigCallback):
            return yaml.safe_load(callback.parser.dump(callback.config, skip_none=False))
    return None


def provenance(trainer: Trainer) -> dict[str, Any]:
    """Seed, command, commit, versions, devices and configuration of a run."""
    seed = os.environ.get("PL_GLOBAL_SEED")  # where `seed_everything` leaves it
    return {
        "seed": None if seed is None else int(seed),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "commit": git_commit(),
        "versions": versions(),
        "devices": f"{trainer.world_size} x {type(trainer.accelerator).__name__.removesuffix('Accelerator')}",
        "precision": trainer.precision,
        "config": run_config(trainer),
    }
