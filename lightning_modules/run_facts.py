"""Facts of a run that its record, its results and its adapter's card name: command, commit, versions."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

#: Those that decide what weights, pixels, tokens or bytes become.
RECORDED_PACKAGES = (
    "vidpref", "torch", "torchvision", "lightning", "transformers", "tokenizers", "diffusers", "peft", "safetensors",
    "webdataset", "av", "opencv-python-headless", "numpy",
)  # fmt: skip


def run_facts() -> dict[str, Any]:
    """The command, the git commit of this code (None outside a clone), whether it has local changes, the versions."""
    # Of this file, not of the working folder: runs are started from anywhere.
    code = Path(__file__).resolve().parents[1]
    commit = _git(code, "rev-parse", "HEAD")
    return {
        "command": sys.argv,
        "git_commit": commit,
        # Untracked files are no changes: runs write their results into the clone.
        "git_dirty": bool(_git(code, "status", "--porcelain", "--untracked-files=no")) if commit else None,
        "python": sys.version.split()[0],
        "versions": {name: installed_version(name) for name in RECORDED_PACKAGES},
    }


def installed_version(name: str) -> str | None:
    """The version of a package; None = it is not installed (this one may run from a clone)."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git(folder: Path, *arguments: str) -> str | None:
    """The output of a git command, or None where there is no git or no repository."""
    try:
        result = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()
