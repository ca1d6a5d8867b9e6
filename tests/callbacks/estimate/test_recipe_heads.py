"""The recipes' heads say what `vidpref estimate` says: each quotes its command, its memory and its hours."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import vidpref
from tests.support.paths import ROOT

#: Recipes whose head quotes a command; the others refer to one of these.
RECIPES = [
    path for path in sorted((ROOT / "configs" / "recipes").glob("*.yaml")) if "vidpref estimate" in path.read_text()
]


def head(path: Path) -> str:
    """A recipe's leading comment as running text."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = lines[: next(number for number, line in enumerate(lines) if not line.startswith("#"))]
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in comment)


def quoted(path: Path) -> tuple[list[str], float, float]:
    """The command in a head, and the GiB and the hours of the fit that it gives."""
    text = head(path)
    command = re.search(r"^  vidpref (estimate(?:.*)(?:\n    .*)*)", text, re.MULTILINE)
    memory = re.search(r"Memory by estimate: ([\d.]+) GiB", text)
    hours = re.search(r"fit ([\d.,]+) on one H100", text)
    assert command is not None
    assert memory is not None
    assert hours is not None
    return shlex.split(command[1]), float(memory[1]), float(hours[1].replace(",", ""))


def test_five_recipes_quote_a_command() -> None:
    assert len(RECIPES) == 5
    assert all("--gpus 1 --quick" in " ".join(quoted(path)[0]) for path in RECIPES)


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_head_is_what_the_command_prints(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    command, memory, hours = quoted(path)
    assert vidpref.main(["--debug", *command]) == 0
    text = capsys.readouterr().out
    printed = [re.split(r"\s{2,}", line) for line in text.splitlines() if line.startswith("1 one device")]
    assert memory == pytest.approx(float(printed[0][-1]), abs=0.06)
    assert hours == pytest.approx(float(printed[1][-1].removesuffix(" h").replace(",", "")), rel=0.01)
