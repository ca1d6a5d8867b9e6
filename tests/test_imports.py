"""Imports between folders run one way: no folder imports one that stands on it, at any depth."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PACKAGES = ("lightning_modules", "datamodules", "callbacks", "benchmarks")


def sources(root: Path = ROOT) -> dict[str, Path]:
    """Module name -> its file, relative to the root."""
    files = [root / "vidpref.py", *(file for package in PACKAGES for file in (root / package).rglob("*.py"))]
    paths = [file.relative_to(root) for file in files]
    return {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


def imported(tree: ast.AST) -> Iterator[str]:
    """Names of modules, and of what may be one, that a file imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def folder_imports(root: Path, modules: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    """Folder -> the folders beside it that it imports, each with one import as an example."""
    edges: dict[str, dict[str, str]] = defaultdict(dict)
    for path in modules.values():
        for name in imported(ast.parse((root / path).read_text(encoding="utf-8"))):
            target = modules.get(name)
            if target is None or target == path:
                continue
            shared = next(depth for depth, (a, b) in enumerate(zip(path.parts, target.parts, strict=False)) if a != b)
            folder, other = ("/".join(side.parts[: shared + 1]) for side in (path, target))
            if not folder.endswith(".py") and not other.endswith(".py"):
                edges[folder].setdefault(other, f"{path} imports {target}")
    return edges


def circle(edges: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The imports of one circle of folders; empty = there is none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        names = error.args[1]
        return [edges[a].get(b) or edges[b][a] for a, b in pairwise(names)]
    return []


def test_no_circle_of_folders() -> None:
    edges = folder_imports(ROOT, sources())
    assert len(edges) > 15
    assert circle(edges) == []


@pytest.mark.parametrize("length", [2, 3])
def test_a_circle_is_noticed(tmp_path: Path, length: int) -> None:
    names = ["shards", "stream", "video"][:length]
    for name, other in zip(names, names[1:] + names[:1], strict=True):
        (tmp_path / "datamodules" / name).mkdir(parents=True)
        (tmp_path / "datamodules" / name / "a.py").write_text(f"def f():\n    from datamodules.{other} import a\n")
    (tmp_path / "vidpref.py").write_text("")
    assert len(circle(folder_imports(tmp_path, sources(tmp_path)))) == length


BELOW = {"datamodules.shards", "datamodules.stream", "datamodules.video"}
#: Folder -> the folders that it may import.
ALLOWED = {
    "lightning_modules.losses": set[str](),
    **dict.fromkeys([*sorted(BELOW), "datamodules.vista", "datamodules.dense", "datamodules.questions"], BELOW),
}


@pytest.mark.parametrize("folder", sorted(ALLOWED))
def test_the_lower_folders_import_nothing_above_them(folder: str) -> None:
    """`losses` and the bytes, order and pixels know no method; the methods and questions do not know each other."""
    modules = sources()
    mine = {name: path for name, path in modules.items() if name.startswith(f"{folder}.")}
    assert mine
    allowed = {folder, *ALLOWED[folder]}
    strangers = {
        f"{path} imports {name}"
        for path in mine.values()
        for name in imported(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        if name in modules and modules[name].parent.parts[1:] and ".".join(modules[name].parent.parts) not in allowed
    }
    assert strangers == set()
