"""The loader of VistaDPO on 1080p videos with four workers, against bare decoding in one process."""

from __future__ import annotations

from dataclasses import asdict

from benchmarks.gpu.row import Outcome, Setting
from benchmarks.speed.loader import loader_rates
from benchmarks.speed.options import LoaderOptions

WORKERS = 4


def measure(setting: Setting) -> Outcome:
    """Read each sample once in every way."""
    options = LoaderOptions(samples=24, workers=[WORKERS], video_frames=72)
    if setting.dry_run:
        options = LoaderOptions(**LoaderOptions.quick() | {"workers": [1]})
    bare, ours, plain = loader_rates(options, setting.scratch)
    values = {rate.name: asdict(rate) | {"rate": rate.rate} for rate in (bare, ours, plain)}
    summary = (
        f"{ours.rate:.1f} samples/s of {options.height} lines with {ours.workers} workers, plain webdataset "
        f"{plain.rate:.1f}, bare decoding in one process {bare.rate:.1f}"
    )
    return Outcome(summary, values)
