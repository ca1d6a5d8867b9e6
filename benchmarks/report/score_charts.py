"""Charts of benchmark results: a point with its interval for each tested run, and a diamond for the paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.base.results import marks, number_at, unit_of
from benchmarks.report.charts import color_of, drawing, in_rows, svg_of, tidy
from benchmarks.report.runs import Run

COLUMNS = 2
#: Heights in inches: a run's line, a score's name above its runs, and title with axis.
_LINE, _NAME, _FRAME = 0.17, 0.3, 0.75


def score_chart(runs: Sequence[Run]) -> str:
    """Charts in rows that take the page's text colour; the empty string when no result has intervals."""
    from matplotlib.figure import Figure

    charts = []
    for benchmark in dict.fromkeys(name for run in runs for name in run.tests):
        # With the index among all runs, so that a run has one colour everywhere.
        tested = [(index, run) for index, run in enumerate(runs) if benchmark in run.tests]
        scores = _headlines([run for _, run in tested], benchmark)
        for unit in dict.fromkeys(scores.values()):
            addresses = [address for address, own_unit in scores.items() if own_unit == unit]
            with drawing():
                height = _FRAME + len(addresses) * (_NAME + _LINE * len(tested))
                figure = Figure(figsize=(4.2, height), layout="constrained")
                axes = figure.subplots()
                tidy(axes, benchmark)
                axes.grid(axis="x", color="#808080", alpha=0.25, linewidth=0.6)
                axes.set_xlabel({"%": "percent", "0 to 5": "score"}.get(unit, unit))
                _draw(axes, tested, benchmark, addresses)
                charts.append((height, svg_of(figure)))
    # By height: a short chart beside a tall one would leave an empty space.
    return in_rows([svg for _, svg in sorted(charts, key=lambda height_and_svg: height_and_svg[0])], COLUMNS)


def _headlines(runs: Sequence[Run], benchmark: str) -> dict[str, str]:
    """Address -> unit of the scores over all parts that have an interval; of every score where there are none."""
    tests = [run.tests[benchmark] for run in runs]
    units = {a: unit_of(a, test.about.get("percent", True)) for test in tests for a in test.intervals}
    return {address: unit for address, unit in units.items() if address.startswith("all")} or units


def _draw(axes: Any, tested: Sequence[tuple[int, Run]], benchmark: str, scores: Sequence[str]) -> None:
    """Draw the scores from top to bottom, each with its name above its runs; one unit of y is a run's line."""
    height = len(tested) + _NAME / _LINE
    for row, address in enumerate(scores):
        marked = dict.fromkeys(mark for _, run in tested if (mark := marks(run.tests[benchmark].about).get(address)))
        name = f"{address} ({', '.join(marked)})" if marked else address
        # In the axes' own x, from 0 to 1: at the left edge whatever the numbers are.
        axes.text(0.01, row * height - 0.9, name, transform=axes.get_yaxis_transform(), fontsize=9, va="center")
        for line, (index, run) in enumerate(tested):
            test = run.tests[benchmark]
            value = number_at(test.results, address)
            if value is None or address not in test.intervals:
                continue
            scale = 100 if unit_of(address, test.about.get("percent", True)) == "%" else 1
            low, high = test.intervals[address]
            y, color = row * height + line, color_of(index)
            axes.plot([scale * low, scale * high], [y, y], color=color, linewidth=1.6)
            axes.plot([scale * value], [y], "o", color=color, markersize=5)
            for published in test.about.get("paper", {}).get("numbers", ()):
                # A proxy beside a published number would look comparable.
                if published["score"] == address and published["paper"] is not None and not marked:
                    axes.plot([published["paper"]], [y], "D", color="none", markeredgecolor=color, markersize=5)
    axes.set_yticks([])
    axes.set_ylim(len(scores) * height - _NAME / _LINE, -_NAME / _LINE)
