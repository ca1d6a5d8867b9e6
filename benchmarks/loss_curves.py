"""The loss curves of several runs: one small chart for each term, a line for each run."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from benchmarks.runs import Curve, Run

#: Distinct on white and on black, and to readers who see few colours (Okabe and Ito).
COLORS = ("#e69f00", "#0072b2", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")
#: Stands for the page's own text colour until the chart is in the page.
INK = "#010203"
COLUMNS = 3
#: A line through noise is drawn as the mean over this share of a curve's points.
SMOOTHED_SHARE = 0.05


def color_of(number: int) -> str:
    """The colour of the run of that number, everywhere in a report."""
    return COLORS[number % len(COLORS)]


def loss_chart(runs: Sequence[Run]) -> str:
    """An SVG that takes the page's text colour; the empty string when no run was trained."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    terms = sorted(dict.fromkeys(term for run in runs for term in run.curves), key=lambda term: term != "total")
    if not terms:
        return ""
    rows = -(-len(terms) // COLUMNS)
    # A fixed salt: the same curves give the same file.
    style = {"svg.hashsalt": "vidpref", "svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif"}
    ink = dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    with mpl.rc_context(style | ink):
        figure = Figure(figsize=(10, 2.3 * rows), layout="constrained")
        charts = figure.subplots(rows, COLUMNS, squeeze=False).flat
        for term, axes in zip(terms, charts, strict=False):
            axes.set_title(term, fontsize=10)
            axes.set_facecolor("none")
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color="#808080", alpha=0.25, linewidth=0.6)
            axes.set_xlabel("optimizer step")
            for number, run in enumerate(runs):
                if term in run.curves:
                    _draw(axes, run.curves[term], color_of(number))
        for axes in list(charts):
            axes.set_visible(False)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def _draw(axes: object, curve: Curve, color: str) -> None:
    """The curve thin, and its running mean over it."""
    window = max(1, round(len(curve.values) * SMOOTHED_SHARE))
    values = np.array(curve.values)
    padded = np.pad(values, (window // 2, window - 1 - window // 2), mode="edge")
    mean = np.convolve(padded, np.full(window, 1 / window), mode="valid")
    axes.plot(curve.steps, values, color=color, alpha=0.3, linewidth=0.8)  # type: ignore[attr-defined]
    axes.plot(curve.steps, mean, color=color, linewidth=1.6)  # type: ignore[attr-defined]
