"""The documentation site, built by Sphinx from the Markdown pages of this folder and the docstrings of the packages."""

from __future__ import annotations

import re
import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pygments.lexers.special import TextLexer

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]
# This tree's own modules, wherever the package is installed from.
sys.path.insert(0, str(ROOT))

project = "vidpref"
version = release = installed_version("vidpref")
extensions = ["myst_parser", "sphinx.ext.apidoc", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "vidpref"
html_copy_source = False

# Headings have the anchors that GitHub gives them; a link to one that is not there is a warning, and fails the build.
myst_heading_anchors = 4

# A page for every folder of the packages with its modules, written at each build into a folder that git ignores.
apidoc_modules = [
    {"path": str(ROOT / package), "destination": f"api/{package}", "module_first": True}
    for package in ("lightning_modules", "datamodules", "callbacks", "benchmarks")
]
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
# The fields of a dataclass are in its docstring and in its body; they are described once.
napoleon_use_ivar = True
# `Name` in a docstring is code, as in Markdown.
default_role = "code"
# A type that two modules define under one name is linked to one of them; the links of pages are not of this kind.
suppress_warnings = ["ref.python"]

_CODE = re.compile(r"(`+[^`]+`+)")
_MARKUP = re.compile(r"[*|]|(?<=\w)_(?!\w)")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_lexer("csv", TextLexer)  # a language to GitHub, and not to Pygments
    # Before napoleon (500), which adds markup of its own.
    app.connect("autodoc-process-docstring", _escape, priority=100)


def _escape(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Escape what is plain text in our docstrings and markup to Sphinx: |z|, a * b, v_."""
    for position, line in enumerate(lines):
        parts = _CODE.split(line)
        # The odd parts are the code between backticks.
        parts[::2] = [_MARKUP.sub(r"\\\g<0>", part) for part in parts[::2]]
        lines[position] = "".join(parts)
