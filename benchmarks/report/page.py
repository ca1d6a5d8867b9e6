"""Report of several runs, in Markdown and as a web page that needs no other file."""

from __future__ import annotations

import base64
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.base.paper_tables import PaperRow
from benchmarks.report.charts import color_of
from benchmarks.report.loss_curves import loss_chart
from benchmarks.report.runs import HALLUCER, Run
from benchmarks.report.score_charts import score_chart
from benchmarks.report.score_tables import interval_tables, main_table, notes, subset_table
from benchmarks.report.tables import Row, Table

LEAD = (
    "Share of questions answered right, in percent. Every pair asks for something that is there (basic) and for "
    "something that is not (hallucinated); overall counts the pairs with both answers right. Reward accuracy: held-out "
    "preference pairs whose chosen answer has the larger reward. AUC (0 to 1): how well the margin of yes over no "
    "separates the two kinds of question. Yes bias: how much oftener yes is said than it is true; 0 is ideal."
)


@dataclass(frozen=True, slots=True)
class Section:
    """Section of the page, below the scores.

    Attributes:
        title: its heading.
        text: its first paragraph.
        table: shown below the text; None = no table.
        png: a picture; None = no picture.
        alt: the picture's text alternative.
    """

    title: str
    text: str
    table: Table | None = None
    png: bytes | None = None
    alt: str = ""

    @property
    def image(self) -> str | None:
        """The picture as base64."""
        return None if self.png is None else base64.b64encode(self.png).decode()


def views_section(png: bytes) -> Section:
    """The picture of a sample's views, see `benchmarks.toy.vista.six_views`."""
    return Section(
        "The six views of one sample",
        "What VistaDPO compares: each level's view with its negative, and the answers that are scored under it.",
        png=png,
        alt="Six rows of frames: the video, the clip and the object, each with its negative",
    )


def tables(runs: Sequence[Run], paper: Sequence[PaperRow] = ()) -> dict[str, Table]:
    """Title -> table, for every benchmark that some run was tested on; the first is shown on top."""
    by_title: dict[str, Table] = {}
    if any(HALLUCER in run.tests for run in runs) or not any(run.tests for run in runs):
        by_title[HALLUCER] = main_table(runs, paper)
    subsets = subset_table(runs)
    if subsets.rows:
        by_title["Overall accuracy by subset, %"] = subsets
    for benchmark, table in interval_tables(runs, paper).items():
        by_title[f"{benchmark}, with intervals"] = table
    return by_title


def markdown(runs: Sequence[Run], paper: Sequence[PaperRow] = ()) -> str:
    """All tables and the notes in Markdown."""
    parts = [f"{title}:\n\n{table.markdown()}" for title, table in tables(runs, paper).items()]
    return "\n".join([*parts, *(f"{note}\n" for note in notes(runs))])


def web_page(
    runs: Sequence[Run],
    sections: Sequence[Section] = (),
    title: str = "vidpref report",
    paper: Sequence[PaperRow] = (),
) -> str:
    """A page that needs no other file: tables, scores, loss curves, further sections, and what was run."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup, escape

    template = Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    # A long name may be broken after these signs, and not within a word.
    environment.filters["broken"] = lambda name: Markup(re.sub(r"([/_])", r"\1<wbr>", str(escape(name))))  # noqa: S704
    legend = [Row(run.name, color_of(index), []) for index, run in enumerate(runs)]
    return environment.from_string(template).render(
        title=title,
        lead=LEAD,
        tables=tables(runs, paper),
        hallucer=HALLUCER,
        notes=notes(runs),
        # SVG of our own, and the only content that is not escaped.
        chart=Markup(loss_chart(runs)),  # noqa: S704
        scores=Markup(score_chart(runs)),  # noqa: S704
        legend=legend,
        trained=[row for row, run in zip(legend, runs, strict=True) if run.curves],
        sections=sections,
        runs=[{"name": run.name, "starts": [_printed(start) for start in starts(run)]} for run in runs],
    )


def starts(run: Run) -> list[dict[str, Any]]:
    """The records of a run's starts; that of a test which was started from Python is in its details."""
    return run.records or [test.details for test in run.tests.values() if test.details.get("command")]


def _printed(start: Mapping[str, Any]) -> dict[str, Any]:
    """A start's command line and facts, ready to print."""
    commit = start.get("git_commit")
    facts = {
        "seed": start.get("seed"),
        "commit": f"{commit}{' with local changes' if start.get('git_dirty') else ''}" if commit else None,
        "versions": ", ".join(f"{name} {version}" for name, version in start.get("versions", {}).items()),
    }
    program, *arguments = start["command"]
    command = shlex.join([Path(program).name.removesuffix(".py"), *arguments])
    return {"command": command, "facts": [(key, value) for key, value in facts.items() if value not in (None, "")]}
