"""`python -m benchmarks.speed frames`: memory of VistaDPO's step against the frames of its views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.speed.measure import peak_memory
from benchmarks.speed.models import save_video_llava
from benchmarks.speed.options import FramesOptions
from benchmarks.speed.table import mebibytes, report_rows
from benchmarks.speed.vista_rows import LIVE, WITH_TOWER, vista_rows


def frames(options: FramesOptions) -> dict[str, Any]:
    """Measure each number of frames in a process of its own, and report.

    Returns:
        The content of the report.
    """
    rows = []
    for count in options.counts:
        sizes = with_frames(options, count)
        with TemporaryDirectory() as temporary:
            save_video_llava(sizes, Path(temporary))
            before, peak = peak_memory(vista_rows, LIVE + WITH_TOWER, sizes, Path(temporary))
        rows.append({"frames": count, "prefix": sizes.prefix, "before": before, "peak": peak})
    title = f"Memory of VistaDPO's step, checkpointing {'on' if options.checkpointing else 'off'}"
    columns: dict[str, Callable[[dict[str, int]], str]] = {
        "frames a view": lambda row: str(row["frames"]),
        "tokens a view": lambda row: str(row["prefix"]),
        "MiB": lambda row: mebibytes(row["peak"]),
        "+ MiB": lambda row: mebibytes(row["peak"] - row["before"]),
    }
    return report_rows(title, columns, rows, options)


def with_frames(options: FramesOptions, count: int) -> FramesOptions:
    """The options of a number of frames: the prefix grows by the video, the question stays as long as it is."""
    sizes = replace(options, frames=count, tower=True)
    return replace(sizes, prefix=sizes.video_tokens + options.question)
