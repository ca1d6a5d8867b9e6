"""`python -m benchmarks.speed length`: a few frames of a long video, by its key frames and in one pass."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from benchmarks.speed.measure import peak_of
from benchmarks.speed.options import LengthOptions
from benchmarks.speed.table import mebibytes, report_rows
from benchmarks.speed.videos import FPS, repeated, texture_video
from datamodules.video import codec
from datamodules.video.codec import decode_each, probe
from datamodules.video.frame_indices import uniform_indices


class Reading(NamedTuple):
    """What reading took of a process: seconds of the processor, and bytes."""

    cpu_seconds: float
    before: int
    peak: int


def length(options: LengthOptions) -> dict[str, Any]:
    """Measure each length in processes of their own, and report.

    Returns:
        The content of the report.
    """
    rows: list[dict[str, Any]] = []
    with TemporaryDirectory() as temporary:
        part = texture_video(options.part, options.height, options.width, options.seed)
        for minutes in options.minutes:
            file = Path(temporary) / f"{minutes}.mp4"
            repeated(part, max(1, round(minutes * 60 * FPS / options.part)), file)
            facts = probe(file)
            numbers = uniform_indices(0, facts.frames - 1, options.frames)
            seeking, passing = (in_process(file, numbers, seek) for seek in (True, False))
            rows.append({"minutes": minutes, "frames": facts.frames, "seek": seeking, "pass": passing})
            file.unlink()
    title = (
        f"{options.frames} frames of a long video of {options.height} x {options.width}, a key frame every "
        f"{min(options.part, 250) / FPS:.3g} s"
    )
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "minutes": lambda row: f"{row['minutes']:g}",
        "frames": lambda row: str(row["frames"]),
        "CPU s": lambda row: f"{row['seek'].cpu_seconds:.2f}",
        "+ MiB": lambda row: mebibytes(row["seek"].peak - row["seek"].before),
        "CPU s in one pass": lambda row: f"{row['pass'].cpu_seconds:.2f}",
        "+ MiB in one pass": lambda row: mebibytes(row["pass"].peak - row["pass"].before),
    }
    return report_rows(title, columns, rows, options, _as_json)


def _as_json(row: dict[str, Any]) -> dict[str, Any]:
    return row | {name: row[name]._asdict() for name in ("seek", "pass")}


def in_process(file: Path, numbers: list[int], seek: bool) -> Reading:
    """Read frames in a new process.

    Args:
        file: the video.
        numbers: of the frames.
        seek: skip what lies before key frames, as the loader does; else decode all on the way.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_read, file, numbers, seek).result()


def _read(file: Path, numbers: list[int], seek: bool) -> Reading:
    if not seek:
        vars(codec)["far_apart"] = lambda selected: False
    call = partial(decode_each, file, numbers)
    start = time.process_time()
    before, peak = peak_of(call)
    return Reading(time.process_time() - start, before, peak)
