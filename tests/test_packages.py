"""The packages have everyday names; these tests prove that the installed ones are this repository's."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["setuptools"]["packages"]


@pytest.mark.parametrize("name", [*PACKAGES, "vidpref"])
def test_package_is_this_repository(name: str) -> None:
    file = importlib.import_module(name).__file__
    assert file is not None
    assert Path(file).resolve().is_relative_to(ROOT)


def test_installed_packages_are_this_repository(tmp_path: Path) -> None:
    """Also from another folder, where only what is installed can be found."""
    names = sorted({name.partition(".")[0] for name in PACKAGES})
    code = f"import importlib; [print(importlib.import_module(n).__file__) for n in {names}]"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert len(done.stdout.splitlines()) == len(names)
    assert all(Path(line).resolve().is_relative_to(ROOT) for line in done.stdout.splitlines())


def test_every_folder_with_modules_is_listed() -> None:
    roots = {name.partition(".")[0] for name in PACKAGES}
    on_disk = {
        ".".join(folder.parent.relative_to(ROOT).parts)
        for root in roots
        for folder in (ROOT / root).rglob("__init__.py")
    }
    assert on_disk == set(PACKAGES)


def test_console_script_names_the_command() -> None:
    module, _, function = PROJECT["project"]["scripts"]["vidpref"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))
