"""`python -m benchmarks.speed frames`: memory of VistaDPO's step against the frames of its views."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.speed.measure import peak_memory
from benchmarks.speed.models import save_video_llava
from benchmarks.speed.options import FramesOptions
from benchmarks.speed.table import machine_line, print_table, write_report
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
    cells = [
        [
            str(row["frames"]),
            str(row["prefix"]),
            f"{row['peak'] / 2**20:.0f}",
            f"{(row['peak'] - row['before']) / 2**20:.0f}",
        ]
        for row in rows
    ]
    title = f"Memory of VistaDPO's step, checkpointing {'on' if options.checkpointing else 'off'}"
    print_table(title, ("frames a view", "tokens a view", "MiB", "+ MiB"), cells, [machine_line(options)])
    return write_report(title, options, rows)


def with_frames(options: FramesOptions, count: int) -> FramesOptions:
    """The options of a number of frames: the prefix grows by the video, the question stays as long as it is."""
    sizes = replace(options, frames=count, tower=True)
    return replace(sizes, prefix=sizes.video_tokens + options.question)
