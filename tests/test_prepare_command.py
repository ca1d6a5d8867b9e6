"""`vidpref prepare` as a person types it: sources, options, messages."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

import vidpref
from callbacks.cli.verbs import prepare
from tests.support.command_fakes import exit_status

Run = Callable[..., int]


def test_unknown_verb_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert vidpref.main(["train"]) == 2
    assert "'train'" in capsys.readouterr().err
    assert vidpref.main(["prepare", "youtube"]) == 2
    assert "'youtube'" in capsys.readouterr().err


@pytest.mark.parametrize("source", prepare.PREPARE)
def test_prepare_help(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status(lambda: vidpref.main(["prepare", source, "--help"])) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"vidpref prepare {source}" in shown
    documentation = inspect.getdoc(prepare.function_of(prepare.PREPARE[source])) or ""
    assert " ".join(documentation.split("\n\n")[0].split()) in shown, "what it does"


def _pretend_source(paths: list[str], folder: str, count: int = 3, skip_bad: bool = False) -> None:
    """Stands for a kind of preparation.

    Args:
        paths: files to read.
        folder: where to write.
        count: how many.
        skip_bad: what to do with bad ones.
    """
    if count < 0:
        raise ValueError(f"count is {count}")
    Path(folder).write_text(f"{paths} {count} {skip_bad}")


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`vidpref prepare toy FLAGS...` for the source above, in an empty folder."""
    monkeypatch.setitem(prepare.PREPARE, "toy", prepare.Prepare(__name__, "_pretend_source", "pretend"))
    monkeypatch.chdir(tmp_path)
    return lambda *flags: vidpref.main(["prepare", "toy", *flags])


@pytest.mark.parametrize(
    ("flags", "seen"),
    [
        (["a", "out"], "['a'] 3 False"),
        (["a", "b", "out", "--count", "0"], "['a', 'b'] 0 False"),
        (["--skip-bad", "a", "out"], "['a'] 3 True"),
        (["--skip_bad", "true", "a", "out"], "['a'] 3 True"),
        (["--skip-bad=false", "a", "out"], "['a'] 3 False"),
    ],
)
def test_prepare_passes_its_options(pretend: Run, flags: list[str], seen: str) -> None:
    assert pretend(*flags) == 0
    assert Path("out").read_text() == seen


def test_prepare_reports_bad_input(pretend: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert pretend("a", "out", "--count=-1") == 1
    assert "error: count is -1" in capsys.readouterr().err
    assert exit_status(lambda: pretend("a", "out", "--cuont", "1")) == 2
    assert "--cuont" in capsys.readouterr().err
