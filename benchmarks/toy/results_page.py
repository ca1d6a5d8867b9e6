"""docs/results.md from the studies' files: every `*.json` in docs/results is a part of the page.

    python -m benchmarks.toy.results_page                       # docs/results.md again from docs/results/*.json
    python -m benchmarks.toy.results_page runs/study-dense      # takes in that study's files first

A study leaves its parts as `OUTPUT/page/NAME.json`, with the pictures that they name beside them. A part is an object:

- `order`: a number; parts come in its order, then by file name
- `title`: the heading
- `command`: the command that made it; "" where people wrote the part
- `text`: a list of paragraphs in Markdown, above the tables
- `conditions`: a table of what was checked before anything was fitted, or null
- `tables`: a list of tables
- `controls`: a table, or null
- `pictures`: a list of {"file": a name in the same folder, "text": what it shows}
- `notes`: a list of sentences in Markdown, below
- `rows`: {name of another part's file, without its ending: what it shows}; those that are not in the folder are listed
  as not run
- `made_with`: {"versions": {name: version}, "seeds": [...], "minutes": {what: minutes}, ...}: how it was made; shown in
  one line
- `data`: anything: every number of every seed; it is not shown

and a table is {"title": ..., "header": [the first is the column of names, ...], "rows": [[text, ...], ...]}, its cells
as they are shown. `Page`, `PageTable` and `read_page` are this in types; a file of another form is refused.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.base.results import write_json
from benchmarks.report.tables import Cell, Row, Table
from benchmarks.toy.commands import ROOT

FOLDER = ROOT / "docs" / "results"
PAGE = ROOT / "docs" / "results.md"
#: The folder of a study's parts, within its output.
PARTS = "page"
INTRODUCTION = """# Results

<!-- Made by `python -m benchmarks.toy.results_page` from docs/results/*.json; changes belong there. -->

Everything here was measured on toy worlds, on CPU cores. Nothing was measured on a model of practical size. The worlds
are built on what the papers assume of theirs; what is assumed is checked before anything is fitted, and printed.
"""


@dataclass(frozen=True, slots=True)
class PageTable:
    """Table of the page: a header, and rows of as many texts."""

    title: str
    header: list[str]
    rows: list[list[str]]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(f"table '{self.title}': a row of {len(row)} cells under {len(self.header)} headings")

    @classmethod
    def of(cls, title: str, table: Table) -> PageTable:
        """A report's table."""
        rows = [
            [row.name, *(f"**{cell.text}**" if cell.best else cell.text for cell in row.cells)] for row in table.rows
        ]
        return cls(title, list(table.header), rows)

    def markdown(self) -> str:
        """The table below its title."""
        rows = [Row(row[0], "", [Cell(text) for text in row[1:]]) for row in self.rows]
        return f"{self.title}\n\n{Table(tuple(self.header), rows).markdown()}"


@dataclass(frozen=True, slots=True)
class Page:
    """Part of the page: one study; the fields are described at the top of this file."""

    title: str
    command: str
    order: int = 0
    text: list[str] = field(default_factory=list)
    conditions: PageTable | None = None
    tables: list[PageTable] = field(default_factory=list)
    controls: PageTable | None = None
    pictures: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: dict[str, str] = field(default_factory=dict)
    made_with: dict[str, Any] = field(default_factory=dict)
    data: Any = None

    def markdown(self, known: Collection[str] = ()) -> str:
        """The part in Markdown, from its heading on.

        Args:
            known: names of the parts that are there, without endings.
        """
        blocks = [f"## {self.title}", *([f"```\n{self.command}\n```"] if self.command else []), *self.text]
        blocks += [self.conditions.markdown()] if self.conditions is not None else []
        blocks += [table.markdown() for table in self.tables]
        blocks += [self.controls.markdown()] if self.controls is not None else []
        blocks += [f"![{picture['text']}]({FOLDER.name}/{picture['file']})" for picture in self.pictures]
        blocks += ["\n".join(f"- {note}" for note in self.notes)] if self.notes else []
        blocks += [f"Not run: {title}." for name, title in self.rows.items() if name not in known]
        blocks += [f"Made with {_words(self.made_with)}."] if self.made_with else []
        return "\n\n".join(block.strip("\n") for block in blocks) + "\n"

    def write(self, output: Path, name: str) -> Path:
        """Write it as a study's part; pictures belong beside it.

        Args:
            output: the study's folder.
            name: of the file, without its ending.
        """
        path = output / PARTS / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(self))
        return path


def made_with(record: Mapping[str, Any]) -> dict[str, Any]:
    """How a study's record was made."""
    seeds, minutes = record["plan"]["seeds"], record.get("minutes", {})
    return {"seeds": seeds, **record["size"], **record["versions"], "minutes": minutes}


def written_picture(output: Path, name: str, content: bytes) -> str:
    """Write a part's PNG into the study's folder; its file name."""
    picture = output / PARTS / f"{name}.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_bytes(content)
    return picture.name


def read_page(path: Path) -> Page:
    """A part of the page.

    Raises:
        ValueError: the file is none; says what is wrong.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for name in ("conditions", "controls"):
            content[name] = PageTable(**content[name]) if content.get(name) else None
        content["tables"] = [PageTable(**table) for table in content.get("tables", [])]
        page = Page(**content)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is no part of the results page: {error}; see benchmarks/toy/results_page.py"
        ) from error
    if missing := [item["file"] for item in page.pictures if not (path.parent / item["file"]).is_file()]:
        raise ValueError(f"{path} names the picture {missing[0]}, which is not beside it")
    return page


def results_markdown(folder: Path = FOLDER) -> str:
    """The whole page."""
    pages = {path.stem: read_page(path) for path in sorted(folder.glob("*.json"))}
    in_order = sorted(pages, key=lambda name: (pages[name].order, name))
    return "\n".join([INTRODUCTION, *(pages[name].markdown(pages) for name in in_order)])


def take_in(output: Path, folder: Path = FOLDER) -> list[str]:
    """Copy a study's parts and pictures into the folder of the page.

    Returns:
        the names of the files.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    parts = sorted((output / PARTS).glob("*.json"))
    if not parts:
        raise ValueError(f"{output / PARTS} has no part of the page; let the study come to its end")
    names = []
    folder.mkdir(parents=True, exist_ok=True)
    for path in parts:
        for name in (path.name, *(picture["file"] for picture in read_page(path).pictures)):
            shutil.copyfile(path.parent / name, folder / name)
            names.append(name)
    return names


def _words(content: Any) -> str:
    """Names and values in one line."""
    if isinstance(content, dict):
        return ", ".join(f"{name} {_words(value)}" for name, value in content.items())
    return " ".join(_words(value) for value in content) if isinstance(content, list) else str(content)


def main(argv: Sequence[str] | None = None) -> int:
    """Write docs/results.md; the exit status is 1 when a file is not as it should be."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.toy.results_page", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("outputs", nargs="*", type=Path, help="folders of studies whose parts are taken in first")
    options = parser.parse_args(argv)
    try:
        for output in options.outputs:
            print(f"{output}: {', '.join(take_in(output))}")
        PAGE.write_text(results_markdown(), encoding="utf-8")
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    print(f"{PAGE.relative_to(ROOT)} is written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
