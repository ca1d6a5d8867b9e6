"""Benchmark results as charts: one for each benchmark, a point with its interval for each run, a line for the paper."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.base.results import number_at
from benchmarks.report.charts import color_of, drawing, svg_of, tidy
from benchmarks.report.runs import Run


def score_chart(runs: Sequence[Run]) -> str:
    """An SVG that takes the page's text colour; the empty string when no result has intervals."""
    from matplotlib.figure import Figure

    headlines = {
        (name, unit): scores
        for name in _benchmarks(runs)
        for unit in ("percent", "score")
        if (scores := [one for one in _headlines(runs, name) if _unit(one) == unit])
    }
    if not headlines:
        return ""
    inches = [0.7 + 0.22 * (len(runs) + 1) * len(scores) for scores in headlines.values()]
    with drawing():
        figure = Figure(figsize=(10, sum(inches)), layout="constrained")
        charts = figure.subplots(len(headlines), 1, squeeze=False, height_ratios=inches).flat
        for ((benchmark, unit), scores), axes in zip(headlines.items(), charts, strict=True):
            tidy(axes, benchmark)
            axes.grid(axis="x", color="#808080", alpha=0.25, linewidth=0.6)
            axes.set_xlabel(unit)
            _draw(axes, runs, benchmark, scores)
        return svg_of(figure)


def _benchmarks(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in run.tests))


def _unit(address: str) -> str:
    """What a number counts: a judge's scores, 0 to 5, stand on an axis of their own."""
    return "score" if address.endswith("_score") else "percent"


def _headlines(runs: Sequence[Run], benchmark: str) -> list[str]:
    """The scores over all parts; every score where there are none."""
    every = dict.fromkeys(
        address for run in runs if benchmark in run.tests for address in run.tests[benchmark].intervals
    )
    return [address for address in every if address.startswith("all")] or list(every)


def _draw(axes: object, runs: Sequence[Run], benchmark: str, scores: Sequence[str]) -> None:
    """From top to bottom the scores, within each the runs."""
    height = len(runs) + 1
    for place, address in enumerate(scores):
        scale = 1 if _unit(address) == "score" else 100
        for number, run in enumerate(runs):
            one = run.tests.get(benchmark)
            value = number_at(one.results, address) if one else None
            if one is None or value is None or address not in one.intervals:
                continue
            low, high = one.intervals[address]
            at, color = place * height + number, color_of(number)
            axes.plot([scale * low, scale * high], [at, at], color=color, linewidth=1.6)  # type: ignore[attr-defined]
            axes.plot([scale * value], [at], "o", color=color, markersize=5)  # type: ignore[attr-defined]
            for published in one.about.get("paper", {}).get("numbers", ()):
                if published["score"] == address and published["paper"] is not None:
                    axes.plot([published["paper"]], [at], "D", color="none", markeredgecolor=color, markersize=5)  # type: ignore[attr-defined]
    axes.set_yticks([place * height + (len(runs) - 1) / 2 for place in range(len(scores))], scores)  # type: ignore[attr-defined]
    axes.set_ylim(len(scores) * height - 1, -1)  # type: ignore[attr-defined]
