"""A fit that is killed by SIGKILL between two checkpoints and started again: it makes the same steps."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.gpu.row import Outcome, Setting
from benchmarks.toy.commands import ROOT

#: Steps of the fit; how often it is saved; the step at which it is killed.
STEPS, EVERY, KILLED = 6, 3, 5
#: A step that is made again has this loss, within rounding: kernels of a GPU may add in another order.
TOLERANCE = 1e-4


def measure(setting: Setting) -> Outcome:
    """Fit, kill, fit again, compare."""
    folder = setting.scratch
    statuses = [_fit(setting, folder, kill) for kill in (KILLED, None)]
    lines = [json.loads(line) for line in (folder / "steps.jsonl").read_text(encoding="utf-8").splitlines()]
    outcome = compared(lines)
    if statuses != [-signal.SIGKILL, 0]:
        outcome.fault = f"exit statuses {statuses}, expected {[-int(signal.SIGKILL), 0]}"
    elif not list((folder / "run/exports/last").glob("*.safetensors")):
        outcome.fault = "the resumed fit has exported nothing"
    return outcome


def compared(lines: list[dict[str, Any]]) -> Outcome:
    """What the steps of both starts say.

    Args:
        lines: of `StepRecord`, in the order in which they were written.
    """
    steps = [line["step"] for line in lines]
    again = EVERY + 1
    expected = [*range(1, KILLED + 1), *range(again, STEPS + 1)]
    if steps != expected:
        return Outcome("", {"steps": steps}, f"the steps were {steps}, expected {expected}")
    former = {line["step"]: line for line in lines[:KILLED]}
    repeated = lines[KILLED : KILLED + KILLED - EVERY]
    apart = max(abs(line["loss"] - former[line["step"]]["loss"]) for line in repeated)
    fault = "" if apart <= TOLERANCE else f"a repeated step's loss differs by {apart:.1e}"
    if any(line["keys"] != former[line["step"]]["keys"] for line in repeated):
        fault = "the resumed fit has read other samples"
    summary = f"killed after step {KILLED}, resumed after {EVERY}: losses of the repeated steps differ by {apart:.1e}"
    return Outcome(summary, {"steps": lines}, fault)


def _fit(setting: Setting, folder: Path, kill_after: int | None) -> int:
    """Start the fit as a person would; its exit status."""
    command = [
        sys.executable, "-m", "vidpref", "fit", "--config", "configs/toy/wan_dense.yaml",
        f"--trainer.accelerator={setting.accelerator}", "--trainer.devices=1", f"--trainer.max_steps={STEPS}",
        f"--trainer.default_root_dir={folder / 'run'}", "--data.batch_size=4",
        "--trainer.callbacks+=ModelCheckpoint", f"--trainer.callbacks.dirpath={folder / 'run/checkpoints'}",
        f"--trainer.callbacks.every_n_train_steps={EVERY}", "--trainer.callbacks.save_last=true",
        "--trainer.callbacks.enable_version_counter=false",
        "--trainer.callbacks+=benchmarks.gpu.step_record.StepRecord",
        f"--trainer.callbacks.path={folder / 'steps.jsonl'}",
    ]  # fmt: skip
    if kill_after is not None:
        command.append(f"--trainer.callbacks.kill_after={kill_after}")
    return subprocess.run(command, cwd=ROOT, check=False).returncode
