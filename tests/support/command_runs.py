"""Real runs of the command on a tiny checkpoint: annotated toy videos, some without event, box or irrelevant answer."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from datamodules.schemas import write_shards
from datamodules.toy_world.questions import SUBSETS
from datamodules.toy_world.render import draw_scene, render
from datamodules.toy_world.rows import preference_row
from datamodules.video.codec import encode_mp4
from tests.support.paths import ROOT


def write_uneven_shards(output: Path, num_samples: int) -> Path:
    """Shards in which the first samples have everything and most of the others lack something; the index's path."""
    write_shards(_uneven_samples(num_samples), str(output), samples_per_shard=4)
    return Path(f"{output}.index.json")


def _uneven_samples(num_samples: int) -> Iterator[tuple[str, dict[str, bytes]]]:
    for number in range(num_samples):
        rng = random.Random(number)
        scene = draw_scene(rng)
        row = preference_row(scene, f"uneven-{number:03d}", SUBSETS[number % 4], rng)
        if number % 3:
            row = replace(row, event=None)
        if number >= num_samples // 3:
            row = replace(row, boxes=())
        if number % 2:
            row = replace(row, irrelevant=None)
        video = encode_mp4(render(scene), scene.facts.fps)
        yield row.key, {"json": json.dumps(row.to_json()).encode(), "mp4": video}


def fit(folder: Path, *flags: str, probe: str | None = None) -> subprocess.CompletedProcess[str]:
    """`vidpref fit` with all five terms on the tiny checkpoint `tiny` and the shards `train` in the folder."""
    settings: dict[str, Any] = {
        "model.policy.path": "tiny",
        "model.policy.dtype": "float32",
        "model.policy.lora": "{r: 4, alpha: 8}",
        "model.policy.num_frames": 4,
        "model.optimizer.lr": 0.01,
        "data.train": "train.index.json",
        "data.num_frames": 4,
        "data.num_workers": 0,
    }
    return run_fit(folder, f"{ROOT}/configs/vista_dpo/video_llava_lora.yaml", settings, *flags, probe=probe)


def run_fit(
    folder: Path, config: str, settings: dict[str, Any], *flags: str, probe: str | None = None
) -> subprocess.CompletedProcess[str]:
    """`vidpref fit` in the folder, on one CPU unless the flags (and overlays among them) say otherwise."""
    settings = {
        "trainer.accelerator": "cpu",
        "trainer.devices": 1,
        "trainer.precision": "32-true",
        "trainer.enable_progress_bar": False,
        "trainer.accumulate_grad_batches": 1,
    } | settings
    command = [sys.executable, "-m", "vidpref", "fit", "--config", config]
    overlays = [part for part in flags if part.endswith(".yaml")]
    for overlay in overlays:
        command += ["--config", overlay]
    command += [f"--{name}={value}" for name, value in settings.items()]
    command += [part for part in flags if part not in overlays]
    if probe is not None:
        command += ["--trainer.callbacks+=tests.support.run_probes.StepProbe", f"--trainer.callbacks.path={probe}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def steps(path: Path) -> list[dict[str, Any]]:
    """What a `StepProbe` wrote."""
    return [json.loads(line) for line in path.read_text().splitlines()]
