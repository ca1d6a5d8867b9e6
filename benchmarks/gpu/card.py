"""Card, driver and versions: what the numbers belong to."""

from __future__ import annotations

import subprocess
from typing import Any

import torch

from benchmarks.speed.report import environment
from lightning_modules.run_facts import run_facts


def card(device: str) -> dict[str, Any]:
    """The facts of the machine, in JSON types.

    Args:
        device: "cuda" or "cpu".
    """
    facts: dict[str, Any] = environment() | {"commit": run_facts()["git_commit"]}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        cudnn: Any = torch.backends.cudnn
        facts |= {
            "card": properties.name,
            "memory_GiB": properties.total_memory / 2**30,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "driver": _driver(),
            "cuda": torch.version.cuda,
            "cudnn": cudnn.version(),
            "nccl": _nccl(),
        }
    return facts


def _nccl() -> str | None:
    """The version of NCCL; None = torch was built without."""
    nccl: Any = torch.cuda.nccl
    return ".".join(map(str, nccl.version())) if torch.distributed.is_nccl_available() else None


def _driver() -> str:
    """The driver's version, by its own tool."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.split("\n")[0].strip()
