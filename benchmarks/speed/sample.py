"""`python -m benchmarks.speed sample`: bytes of a sample's frames on their way from a worker to the step, by family."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.speed.families import ANSWERS, without_files
from benchmarks.speed.loader import vista_loader
from benchmarks.speed.options import SampleOptions
from benchmarks.speed.table import report_rows
from benchmarks.speed.videos import FPS, write_samples
from datamodules.video.facts import VideoFacts
from datamodules.vista.samples import View
from datamodules.vista.shared_frames import share_frames
from lightning_modules.policies.hub_model import policy_class


def sample(options: SampleOptions) -> dict[str, Any]:
    """Make a sample's views, hand their frames to each family's resizer, and report.

    Returns:
        The content of the report.
    """
    facts = VideoFacts(options.video_frames, FPS, options.width, options.height)
    with TemporaryDirectory() as temporary:
        (batch,) = vista_loader(write_samples(Path(temporary), 1, facts, options.seed), options.frames, options.seed)
    views = batch.views
    shown = sum(view.num_frames * view.pool[0].nbytes for view in views)
    rows = [{"row": "frames as views show them", "bytes": shown, "cpu_seconds": 0.0}]
    rows.append(of_frames("distinct frames", views))
    budget = {} if options.max_pixels is None else {"max_pixels": options.max_pixels}
    for checkpoint in options.checkpoints or ANSWERS:
        with without_files(checkpoint) as folder:
            resizer = policy_class(folder)(folder, **ANSWERS[checkpoint].settings, **budget).frame_resizer()
        rows.append(of_frames(checkpoint, views, resizer))
    title = f"Bytes of a sample: six views of {options.frames} frames of {options.height} x {options.width}"
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "frames": lambda row: str(row["row"]),
        "MiB": lambda row: f"{row['bytes'] / 2**20:.1f}",
        "CPU s": lambda row: f"{row['cpu_seconds']:.2f}",
    }
    return report_rows(title, columns, rows, options)


def of_frames(name: str, views: Sequence[View], resizer: Any = None) -> dict[str, Any]:
    """A row: the bytes of the pools that views share, and the seconds that sharing took."""
    start = time.process_time()
    shared = share_frames(views, resizer)
    seconds = time.process_time() - start
    pools = {id(view.pool): view.pool for view in shared}
    return {"row": name, "bytes": sum(pool.nbytes for pool in pools.values()), "cpu_seconds": seconds}
