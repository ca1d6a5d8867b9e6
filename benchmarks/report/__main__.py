"""Several runs in one table, in the terminal, in Markdown and as a web page that needs no other file.

python -m benchmarks.report runs/demo/base runs/demo/dpo runs/demo/vista --html report.html
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.base.paper_tables import find_row
from benchmarks.report.page import markdown, tables, views_section, web_page
from benchmarks.report.runs import read_runs
from benchmarks.report.score_tables import notes


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables of the given runs; with `--html` and `--markdown` write them, too."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs, in the order of the table")
    parser.add_argument("--html", type=Path, help="write a web page here")
    parser.add_argument("--markdown", type=Path, help="write the tables in Markdown here")
    parser.add_argument(
        "--picture", type=Path, help="a PNG of one sample's views (python -m benchmarks.toy.vista.six_views)"
    )
    parser.add_argument(
        "--paper", action="append", default=[], help="a published row below the runs, PAPER/TABLE/ROW; may be repeated"
    )
    parser.add_argument("--title", default="vidpref report", help="the page's title")
    options = parser.parse_args(argv)
    try:
        runs = read_runs(options.runs)
        paper = [find_row(address) for address in options.paper]
    except ValueError as error:
        parser.error(str(error))
    console = Console()
    for title, table in tables(runs, paper).items():
        console.print(f"{title}:", markup=False)
        table.show(console)
    for note in notes(runs):
        console.print(note, markup=False)
    for path in (options.markdown, options.html):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
    if options.markdown:
        options.markdown.write_text(markdown(runs, paper), encoding="utf-8")
    if options.html:
        sections = [views_section(options.picture.read_bytes())] if options.picture else []
        options.html.write_text(web_page(runs, sections, options.title, paper), encoding="utf-8")


if __name__ == "__main__":
    main()
