"""What the charts of a report share: colours, the page's own ink, and SVG that is the same each time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: Distinct on white and on black, and to readers who see few colours (Okabe and Ito).
COLORS = ("#e69f00", "#0072b2", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")
#: Stands for the page's own text colour until the chart is in the page.
INK = "#010203"


def color_of(number: int) -> str:
    """The colour of the run of that number, everywhere in a report."""
    return COLORS[number % len(COLORS)]


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
