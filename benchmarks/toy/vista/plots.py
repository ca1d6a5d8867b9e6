"""Plots of the study of VistaDPO: usual against counter-prior, and the runs of an ablation one below the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report.charts import color_of
from benchmarks.report.pictures import GREY, png_of

#: Title of a run -> the scores of each seed.
Runs = Mapping[str, Sequence[Mapping[str, float]]]


def usual_plot(runs: Runs) -> bytes:
    """A PNG: facts that reports state rightly, and yes-or-no pairs, usual against counter-prior, a point a seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), dpi=150)
    panels = (("stated", "facts stated rightly in reports"), ("overall", "yes-or-no pairs right"))
    for place, (key, title) in enumerate(panels):
        axes = figure.add_subplot(1, 2, place + 1)
        for index, (name, seeds) in enumerate(runs.items()):
            usual, counter = ([seed[f"{key}_{kind}"] for seed in seeds] for kind in ("usual", "counter"))
            axes.scatter(usual, counter, s=22, color=color_of(index), label=name)
        _styled(axes, title)
        axes.set_xlabel("usual", color=GREY)
        axes.set_ylabel("counter-prior", color=GREY)
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    figure.axes[0].legend(fontsize=8, frameon=False, labelcolor=GREY, loc="lower left")
    figure.tight_layout()
    return png_of(figure)


def rows_plot(runs: Runs) -> bytes:
    """A PNG: a line for each run, with counter-prior facts that reports state rightly, and yes-or-no pairs right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.2 + 0.28 * len(runs)), dpi=150)
    panels = (
        ("stated_counter", "counter-prior facts stated rightly"),
        ("overall_counter", "counter-prior yes-or-no pairs right"),
    )
    for place, (key, title) in enumerate(panels):
        axes = figure.add_subplot(1, 2, place + 1)
        for line, seeds in enumerate(runs.values()):
            values = [seed[key] for seed in seeds]
            axes.scatter(values, [line] * len(values), s=18, color=color_of(place))
            axes.plot([sum(values) / len(values)] * 2, [line - 0.3, line + 0.3], color=color_of(place))
        _styled(axes, title)
        axes.set(xlim=(-0.03, 1.03), ylim=(len(runs) - 0.5, -0.5))
        axes.set_yticks(range(len(runs)), list(runs) if place == 0 else [""] * len(runs), color=GREY, fontsize=8)
    figure.tight_layout()
    return png_of(figure)


def _styled(axes: Any, title: str) -> None:
    """Readable on light and on dark pages."""
    axes.set_title(title, color=GREY, fontsize=10)
    axes.tick_params(colors=GREY)
    axes.set_facecolor("none")
    for spine in axes.spines.values():
        spine.set_color(GREY)
