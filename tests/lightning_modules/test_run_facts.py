"""The facts of a run: which commit of which code, and with what."""

from __future__ import annotations

import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from lightning_modules.run_facts import _git, run_facts
from tests.support.paths import ROOT


def test_git_commit_of_a_repository_and_of_none(tmp_path: Path) -> None:
    assert _git(tmp_path, "rev-parse", "HEAD") is None
    identity = ["-c", "user.name=n", "-c", "user.email=e"]
    for command in (["init", "-q"], [*identity, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    commit = _git(tmp_path, "rev-parse", "HEAD")
    assert commit is not None
    assert len(commit) == 40


def test_the_commit_is_that_of_this_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the run was started: its folder may be another repository's."""
    monkeypatch.chdir(tmp_path)
    facts = run_facts()
    assert facts["git_commit"] == _git(ROOT, "rev-parse", "HEAD")
    # A diffusion adapter depends on diffusers, decoded pixels on PyAV and torchvision.
    for name in ("torch", "torchvision", "diffusers", "transformers", "tokenizers", "peft", "av"):
        assert facts["versions"][name] == version(name)
