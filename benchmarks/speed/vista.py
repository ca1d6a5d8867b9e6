"""`python -m benchmarks.speed vista`: VistaDPO's step against the released schedule and against separate sequences."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.speed.measure import measure_built
from benchmarks.speed.models import save_video_llava
from benchmarks.speed.options import VistaOptions
from benchmarks.speed.report import report
from benchmarks.speed.vista_rows import RELEASED, SEPARATE, WITH_TOWER, vista_rows


def vista(options: VistaOptions) -> dict[str, Any]:
    """Measure and report.

    Returns:
        The content of the report, see `report`.
    """
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        save_video_llava(options, folder)
        rows, product = measure_built(vista_rows, options, folder)
    names = [row.name for row in rows]
    # A row with the tower is compared with a baseline with the tower.
    baselines = {name: RELEASED + WITH_TOWER * name.endswith(WITH_TOWER) for name in names}
    by_name = {row.name: row for row in rows}
    notes = [f"times: how many times as fast as {RELEASED!r}"]
    for name in names:
        if name.startswith("ours"):
            separate = by_name[SEPARATE + WITH_TOWER * name.endswith(WITH_TOWER)]
            notes.append(f"{name}: {separate.median / by_name[name].median:.2f} times as fast as {separate.name!r}")
    return report("VistaDPO: one sample, six views, eight answers", rows, product, baselines, options, notes)
