"""Loss curves of several runs: one small chart for each term, a line for each run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.report.charts import color_of, drawing, in_rows, svg_of, tidy
from benchmarks.report.runs import Curve, Run

COLUMNS = 3
#: The running mean is over this share of a curve's points.
SMOOTHED_SHARE = 0.05


def loss_chart(runs: Sequence[Run]) -> str:
    """Charts in rows that take the page's text colour; the empty string when no run was trained."""
    from matplotlib.figure import Figure

    terms = sorted(dict.fromkeys(term for run in runs for term in run.curves), key=lambda term: term != "total")
    charts = []
    for term in terms:
        with drawing():
            figure = Figure(figsize=(4.2, 2.5), layout="constrained")
            axes = figure.subplots()
            tidy(axes, term)
            axes.grid(axis="y", color="#808080", alpha=0.25, linewidth=0.6)
            axes.set_xlabel("optimizer step")
            for index, run in enumerate(runs):
                if term in run.curves:
                    _draw(axes, run.curves[term], color_of(index))
            charts.append(svg_of(figure))
    return in_rows(charts, COLUMNS)


def _draw(axes: object, curve: Curve, color: str) -> None:
    """The curve thin, and its running mean over it."""
    window = max(1, round(len(curve.values) * SMOOTHED_SHARE))
    values = np.array(curve.values)
    # Padded by its ends, so that the mean has a value at every step.
    padded = np.pad(values, (window // 2, window - 1 - window // 2), mode="edge")
    mean = np.convolve(padded, np.full(window, 1 / window), mode="valid")
    axes.plot(curve.steps, values, color=color, alpha=0.3, linewidth=0.8)  # type: ignore[attr-defined]
    axes.plot(curve.steps, mean, color=color, linewidth=1.6)  # type: ignore[attr-defined]
