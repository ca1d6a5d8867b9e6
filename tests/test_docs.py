"""Every page of the documentation is in the site's navigation, and every link leads to something."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from tests.support.paths import ROOT

PAGES = sorted((ROOT / "docs").glob("*.md"))
#: The only page that is written for the generator; the others are plain Markdown.
INDEX = ROOT / "docs/index.md"


def tokens(text: str) -> Iterator[Token]:
    """All tokens of a page, those within lines as well."""
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        yield token
        yield from token.children or ()


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    parsed = list(tokens(page.read_text(encoding="utf-8")))
    titles = [after.content for token, after in pairwise(parsed) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(page: Path) -> list[str]:
    """All links and pictures of a page."""
    values = [token.attrs.get("href") or token.attrs.get("src") for token in tokens(page.read_text(encoding="utf-8"))]
    return [str(value) for value in values if value]


def broken_links(page: Path, site: Path) -> list[str]:
    """The links of a page that lead nowhere: relative ones to no file or anchor, or out of the site's folder, where
    GitHub has a file and the site has none; and others that are no whole https address."""
    broken = []
    for link in links(page):
        if re.match(r"[a-z]+:|//", link):
            address = urlsplit(link)
            broken += [] if address.scheme == "https" and "." in address.netloc else [link]
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        outside = target != page and site not in target.resolve().parents
        if outside or not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


def test_every_page_is_in_the_navigation() -> None:
    trees = re.findall(r"```\{toctree\}\n(.*?)```", INDEX.read_text(), re.DOTALL)
    entries = [line for tree in trees for line in tree.splitlines() if line and not line.startswith(":")]
    assert sorted(entry for entry in entries if "/" not in entry) == [page.stem for page in PAGES if page != INDEX]
    assert [entry for entry in entries if "/" in entry] == [
        f"api/{package}/modules" for package in ("lightning_modules", "datamodules", "callbacks", "benchmarks")
    ]


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_every_link_leads_somewhere_on_github_and_on_the_site(page: Path) -> None:
    assert broken_links(page, ROOT / "docs") == []


@pytest.mark.parametrize("page", [page for page in PAGES if page != INDEX], ids=lambda page: page.name)
def test_pages_are_plain_markdown(page: Path) -> None:
    assert not re.search(r"^(```|:::+ ?)\{|(?<!\$)\{[a-z]+\}`", page.read_text(), re.MULTILINE)


def test_a_broken_link_is_noticed(tmp_path: Path) -> None:
    site = tmp_path / "docs"
    site.mkdir()
    (tmp_path / "LICENSE").write_text("words")
    (site / "b.md").write_text("# Two `words`, and more\n")
    page = site / "a.md"
    page.write_text("[x](b.md) [y](b.md#two-words-and-more) [z](https://a.b/c) ![p](c.png) [n](b.md#one) [m](#one)\n")
    assert broken_links(page, site) == ["c.png", "b.md#one", "#one"]
    page.write_text("[x](../LICENSE) [y](http://a.b) [z](https:/a.b) [w](https://localhost) [v](//a.b) <https://a.b>\n")
    assert broken_links(page, site) == ["../LICENSE", "http://a.b", "https:/a.b", "https://localhost", "//a.b"]
