"""Every ablation is what its header's commands say: its base with a few settings changed, in a folder of its own."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from callbacks.cli.parse_line import ParseLine
from tests.support.paths import ROOT
from tests.test_configs import header, relative

FOLDER = "trainer.default_root_dir"
ABLATIONS = sorted((ROOT / "configs" / "ablations").rglob("*.yaml"))


def commands(path: Path) -> list[list[str]]:
    """The header's commands, as a shell takes them apart."""
    lines = re.sub(r"\\\n\s*", "", header(path)).splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("vidpref ")]


@cache
def merged(*arguments: str) -> dict[str, Any]:
    """The configuration that a command makes, in plain types."""
    one = ParseLine([str(ROOT / part) if part.startswith("configs/") else part for part in arguments])
    return yaml.safe_load(one.parser.dump(one.config, skip_none=False))["fit"]  # type: ignore[no-any-return]


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of everything that is no dict."""
    if not isinstance(value, dict):
        yield name, value
        return
    for key, inner in value.items():
        yield from leaves(inner, f"{name}.{key}" if name else key)


def base_of(arguments: list[str]) -> list[str]:
    """A command without its ablation and what stands behind it."""
    return arguments[:3]


@pytest.mark.parametrize("path", ABLATIONS, ids=relative)
def test_commands_change_what_the_file_says_and_nothing_else(path: Path) -> None:
    found = commands(path)
    assert found
    assert any("configs/toy/" in part for command in found for part in command), "ablations are for the toy world too"
    said = yaml.safe_load(path.read_text())
    for command in found:
        assert command[4] == relative(path)
        before, after = (dict(leaves(merged(*one))) for one in (base_of(command), command))
        changed = {name for name in after if after[name] != before.get(name) and name != "config"}
        names = [name for name, _ in leaves(said)]
        assert not [name for name in names if name not in changed], "what a file says, it changes"
        assert set(names) - {FOLDER}, "an ablation changes more than the folder"
        allowed = tuple(name.removesuffix(".class_path") for name in names)
        assert not [name for name in changed if not name.startswith(allowed)]


def test_every_ablation_has_a_folder_of_its_own() -> None:
    folders = [merged(*command)["trainer"]["default_root_dir"] for path in ABLATIONS for command in commands(path)]
    assert len(set(folders)) == len(folders)
