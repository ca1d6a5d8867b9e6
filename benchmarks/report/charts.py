"""Style of a report's charts: colours of runs, text in the page's colour, and reproducible SVG."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

#: Distinct on white and on black; the first six also for colour-blind readers (Okabe and Ito).
COLORS = (
    "#e69f00", "#0072b2", "#009e73", "#cc79a7", "#d55e00", "#56b4e9",
    "#8250df", "#8c8c00", "#a0522d", "#e83e8c", "#3d8b37", "#708090",
)  # fmt: skip
#: Placeholder of the page's text colour, which matplotlib cannot name; replaced in the SVG.
INK = "#010203"


def color_of(index: int) -> str:
    """The colour of the run with this index, everywhere in a report; no two runs have the same."""
    if index < len(COLORS):
        return COLORS[index]
    # Hues by the golden ratio never repeat; the lightness alternates, so that near hues differ, too.
    extra = index - len(COLORS)
    channels = colorsys.hls_to_rgb(extra * 0.618034 % 1, (0.38, 0.52, 0.66)[extra % 3], 0.65)
    return "#" + "".join(f"{round(255 * channel):02x}" for channel in channels)


@contextmanager
def drawing() -> Iterator[None]:
    """While it is entered, matplotlib draws in the page's text colour, and equal charts give equal files."""
    import matplotlib as mpl

    # A fixed salt: element ids of the SVG are hashes, and random ones otherwise.
    style = {"svg.hashsalt": "vidpref", "svg.fonttype": "none", "font.size": 9, "font.family": "sans-serif"}
    ink = dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
    with mpl.rc_context(style | ink):
        yield


def tidy(axes: Any, title: str) -> None:
    """Set the title, and remove the frame and the background."""
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
    """Charts side by side in full rows: 4 are 2 and 2, 5 are 3 and 2; on a phone one below the other."""
    rows = -(-len(charts) // columns)  # rounded up
    sizes = [len(charts) // rows + (row < len(charts) % rows) for row in range(rows)] if rows else []
    widths = [100 / size for size in sizes for _ in range(size)]
    cells = [
        f'<div class="chart" style="--width:{width:.2f}%">{chart}</div>'
        for width, chart in zip(widths, charts, strict=True)
    ]
    return f'<div class="charts">{"".join(cells)}</div>' if charts else ""
