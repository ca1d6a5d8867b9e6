"""Several runs in one table, in the terminal, in Markdown and as a web page that needs no other file.

python -m benchmarks.report runs/demo/base runs/demo/dpo runs/demo/vista --html report.html
"""

from __future__ import annotations

import argparse
import base64
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.loss_curves import color_of, loss_chart
from benchmarks.runs import Run, read_run

HEADER = ("run", "basic", "hallucinated", "overall", "reward accuracy", "AUC", "yes bias")
LEAD = (
    "Share of questions answered right, in percent. Every pair asks for something that is there (basic) and for "
    "something that is not (hallucinated); overall counts the pairs with both answers right. Reward accuracy: held-out "
    "preference pairs whose chosen answer has the larger reward. AUC (0 to 1): how well the margin of yes over no "
    "separates the two kinds of question. Yes bias: how much oftener yes is said than it is true; 0 is ideal."
)


@dataclass(frozen=True, slots=True)
class Cell:
    """A number of a table: how it reads, as a share of 100 where a bar makes sense, and whether none is better."""

    text: str
    share: float | None = None
    best: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A run's line in a table."""

    name: str
    color: str
    cells: list[Cell]


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first name of the header stands over the runs."""

    header: tuple[str, ...]
    rows: list[Row]

    def markdown(self) -> str:
        """The table in Markdown, the best numbers bold."""
        lines = [self.header, ("---", *["---:"] * (len(self.header) - 1))]
        lines += [(row.name, *(f"**{c.text}**" if c.best else c.text for c in row.cells)) for row in self.rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def show(self, console: Console) -> None:
        """Print the table."""
        table = RichTable(self.header[0])
        for name in self.header[1:]:
            table.add_column(name, justify="right", min_width=max(map(len, name.split())))
        for row in self.rows:
            table.add_row(row.name, *(f"[bold]{cell.text}[/bold]" if cell.best else cell.text for cell in row.cells))
        console.print(table)


def main_table(runs: Sequence[Run]) -> Table:
    """The table of all runs; a dash stands for what was not measured."""
    accuracies = [
        [run.results["all"][key] if run.results else None for run in runs]
        for key in ("basic_accuracy", "halluc_accuracy", "accuracy")
    ]
    rewards = [run.reward_accuracy for run in runs]
    aucs = [(run.details.get("auc") or {}).get("all") for run in runs]
    leans = [run.details["bias"]["all"]["pct_diff"] if run.details else None for run in runs]
    columns = [_shares(column, "percent", bars=True) for column in (*accuracies, rewards)]
    columns.append(_shares(aucs, "plain", bars=True))
    columns.append([Cell("-" if lean is None else f"{100 * lean:+.1f}") for lean in leans])
    return Table(HEADER, _rows(runs, columns))


def subset_table(runs: Sequence[Run]) -> Table:
    """Overall accuracy by subset, in percent; without rows when no run was tested."""
    tested = [run for run in runs if run.results]
    subsets = dict.fromkeys(subset for run in tested for subset in run.results or {})
    overall = [[(run.results or {}).get(subset, {}).get("accuracy") for run in runs] for subset in subsets]
    columns = [_shares(column, "percent", bars=False) for column in overall]
    return Table(("run", *subsets), _rows(runs, columns) if tested else [])


def _shares(values: Sequence[float | None], form: Literal["percent", "plain"], bars: bool) -> list[Cell]:
    """A column of shares; the largest is the best where there is something to be better than."""
    known = [value for value in values if value is not None]
    largest = max(known) if len(set(known)) > 1 else None
    return [
        Cell("-")
        if value is None
        else Cell(
            f"{100 * value:.1f}" if form == "percent" else f"{value:.3f}",
            100 * value if bars else None,
            largest is not None and value == largest,
        )
        for value in values
    ]


def _rows(runs: Sequence[Run], columns: Sequence[Sequence[Cell]]) -> list[Row]:
    return [Row(run.name, color_of(number), [column[number] for column in columns]) for number, run in enumerate(runs)]


def notes(runs: Sequence[Run]) -> list[str]:
    """What a reader of the table must know: questions that were left out, tests on different questions."""
    found = [
        f"{run.name}: {len(run.details['skipped'])} questions were left out, because their video is missing or damaged."
        for run in runs
        if run.details.get("skipped")
    ]
    hashes = {
        tuple(sorted((name, one["sha256"]) for name, one in run.details["annotations"].items()))
        for run in runs
        if run.details
    }
    if len(hashes) > 1:
        found.append("The runs were tested on different questions, so their numbers cannot be compared.")
    return found


def markdown(runs: Sequence[Run]) -> str:
    """Both tables and the notes in Markdown."""
    parts = [main_table(runs).markdown(), *(f"{note}\n" for note in notes(runs))]
    subsets = subset_table(runs)
    if subsets.rows:
        parts.append(f"Overall accuracy by subset:\n\n{subsets.markdown()}")
    return "\n".join(parts)


def web_page(runs: Sequence[Run], picture: bytes | None = None, title: str = "vidpref report") -> str:
    """A page that needs no other file: the tables, the loss curves, the picture of a sample, and what was run."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    template = Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    table = main_table(runs)
    return environment.from_string(template).render(
        title=title,
        lead=LEAD,
        table=table,
        notes=notes(runs),
        subsets=subset_table(runs),
        # Our own drawing: the one thing that is not escaped.
        chart=Markup(loss_chart(runs)),  # noqa: S704
        trained=[row for row, run in zip(table.rows, runs, strict=True) if run.curves],
        picture=None if picture is None else base64.b64encode(picture).decode(),
        runs=[{"name": run.name, "starts": [_told(start) for start in starts(run)]} for run in runs],
    )


def starts(run: Run) -> list[dict[str, Any]]:
    """The records of a run's starts; those of a test that was started from Python lie in its details."""
    return run.records or ([run.details] if run.details else [])


def _told(start: Mapping[str, Any]) -> dict[str, Any]:
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


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table of the given runs, and write what else was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs, in the order of the table")
    parser.add_argument("--html", type=Path, help="write a web page here")
    parser.add_argument("--markdown", type=Path, help="write the tables in Markdown here")
    parser.add_argument("--picture", type=Path, help="a PNG of one sample's views (python -m benchmarks.six_views)")
    parser.add_argument("--title", default="vidpref report", help="the page's title")
    options = parser.parse_args(argv)
    try:
        runs = [read_run(folder) for folder in options.runs]
    except ValueError as error:
        parser.error(str(error))
    main_table(runs).show(Console())
    for note in notes(runs):
        Console().print(note)
    if options.markdown:
        options.markdown.write_text(markdown(runs), encoding="utf-8")
    if options.html:
        picture = options.picture.read_bytes() if options.picture else None
        options.html.write_text(web_page(runs, picture, options.title), encoding="utf-8")


if __name__ == "__main__":
    main()
