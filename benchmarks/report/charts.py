"""What the charts of a report share: colours, the page's own ink, and SVG that is the same each time."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

#: Distinct on white and on black; the first six also to readers who see few colours (Okabe and Ito).
COLORS = (
    "#e69f00", "#0072b2", "#009e73", "#cc79a7", "#d55e00", "#56b4e9",
    "#8250df", "#8c8c00", "#a0522d", "#e83e8c", "#3d8b37", "#708090",
)  # fmt: skip
#: Stands for the page's own text colour until the chart is in the page.
INK = "#010203"


def color_of(number: int) -> str:
    """The colour of the run of that number, everywhere in a report; no two runs have the same."""
    if number < len(COLORS):
        return COLORS[number]
    # Hues by the golden ratio never repeat; the lightness alternates, so that near hues differ too.
    extra = number - len(COLORS)
    channels = colorsys.hls_to_rgb(extra * 0.618034 % 1, (0.38, 0.52, 0.66)[extra % 3], 0.65)
    return "#" + "".join(f"{round(255 * one):02x}" for one in channels)


@contextmanager
def drawing() -> Iterator[None]:
    """While it is entered, matplotlib draws in the page's ink, and equal charts give equal files."""
    import matplotlib as mpl

    # A fixed salt: the same curves give the same file.
    style = {"svg.hashsalt": "vidpref", "svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif"}
    ink = dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    with mpl.rc_context(style | ink):
        yield


def tidy(axes: Any, title: str) -> None:
    """A chart without a frame, on the page's own ground."""
    axes.set_title(title, fontsize=10)
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)


def svg_of(figure: Any) -> str:
    """The figure as an SVG element that takes the page's text colour."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    return svg[svg.index("<svg") :].replace(INK, "currentColor")


def in_rows(charts: Sequence[str], columns: int) -> str:
    """Charts side by side in rows that are full: 4 are 2 and 2, 5 are 3 and 2; on a phone one below the other."""
    rows = -(-len(charts) // columns)
    sizes = [len(charts) // rows + (row < len(charts) % rows) for row in range(rows)] if rows else []
    widths = [100 / size for size in sizes for _ in range(size)]
    cells = [
        f'<div class="chart" style="--width:{width:.2f}%">{one}</div>'
        for width, one in zip(widths, charts, strict=True)
    ]
    return f'<div class="charts">{"".join(cells)}</div>' if charts else ""
