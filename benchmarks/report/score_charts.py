"""Benchmark results as charts: a point with its interval for each run that was tested, a diamond for the paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.base.results import marks, number_at, unit_of
from benchmarks.report.charts import color_of, drawing, in_rows, svg_of, tidy
from benchmarks.report.runs import Run

COLUMNS = 2
#: Inches of a run's line, of a score's name above its runs, and of title and axis.
_LINE, _NAME, _REST = 0.17, 0.3, 0.75


def score_chart(runs: Sequence[Run]) -> str:
    """Charts in rows that take the page's text colour; the empty string when no result has intervals."""
    from matplotlib.figure import Figure

    charts = []
    for benchmark in dict.fromkeys(name for run in runs for name in run.tests):
        # A run that was not tested on it has no line: its colour stays that of its place among all runs.
        tested = [(number, run) for number, run in enumerate(runs) if benchmark in run.tests]
        scores = _headlines([run for _, run in tested], benchmark)
        for unit in dict.fromkeys(scores.values()):
            own = [address for address, counted in scores.items() if counted == unit]
            with drawing():
                height = _REST + len(own) * (_NAME + _LINE * len(tested))
                figure = Figure(figsize=(4.2, height), layout="constrained")
                axes = figure.subplots()
                tidy(axes, benchmark)
                axes.grid(axis="x", color="#808080", alpha=0.25, linewidth=0.6)
                axes.set_xlabel({"%": "percent", "0 to 5": "score"}.get(unit, unit))
                _draw(axes, tested, benchmark, own)
                charts.append((height, svg_of(figure)))
    # Beside each other those of about the same height: a short one beside a tall one would leave an empty place.
    return in_rows([svg for _, svg in sorted(charts, key=lambda one: one[0])], COLUMNS)


def _headlines(runs: Sequence[Run], benchmark: str) -> dict[str, str]:
    """Address -> unit of the scores with intervals over all parts; every score where there are none."""
    tests = [run.tests[benchmark] for run in runs]
    every = {a: unit_of(a, one.about.get("percent", True)) for one in tests for a in one.intervals}
    return {address: unit for address, unit in every.items() if address.startswith("all")} or every


def _draw(axes: Any, tested: Sequence[tuple[int, Run]], benchmark: str, scores: Sequence[str]) -> None:
    """From top to bottom the scores, each with its name above its runs."""
    height = len(tested) + _NAME / _LINE
    for place, address in enumerate(scores):
        marked = dict.fromkeys(mark for _, run in tested if (mark := marks(run.tests[benchmark].about).get(address)))
        name = f"{address} ({', '.join(marked)})" if marked else address
        # At the left edge whatever the numbers are.
        axes.text(0.01, place * height - 0.9, name, transform=axes.get_yaxis_transform(), fontsize=9, va="center")
        for line, (number, run) in enumerate(tested):
            one = run.tests[benchmark]
            value = number_at(one.results, address)
            if value is None or address not in one.intervals:
                continue
            scale = 100 if unit_of(address, one.about.get("percent", True)) == "%" else 1
            low, high = one.intervals[address]
            at, color = place * height + line, color_of(number)
            axes.plot([scale * low, scale * high], [at, at], color=color, linewidth=1.6)
            axes.plot([scale * value], [at], "o", color=color, markersize=5)
            for published in one.about.get("paper", {}).get("numbers", ()):
                # A proxy beside a published number would look comparable.
                if published["score"] == address and published["paper"] is not None and not marked:
                    axes.plot([published["paper"]], [at], "D", color="none", markeredgecolor=color, markersize=5)
    axes.set_yticks([])
    axes.set_ylim(len(scores) * height - _NAME / _LINE, -_NAME / _LINE)
