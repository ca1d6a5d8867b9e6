"""An experiment of a second that the command runs, with the classes of `command_fakes`."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

import vidpref
from tests.support import command_fakes  # noqa: F401 an imported class has a short name

EXPERIMENT = """
model:
  class_path: TinyModule
  init_args:
    policy:
      class_path: TinyPolicy
      init_args: {path: nowhere}
    optimizer:
      class_path: SGD
      init_args: {lr: 0.01}
data:
  class_path: TinyData
  init_args: {train: nothing}
trainer:
  default_root_dir: run
  accelerator: cpu
  max_epochs: 2
  log_every_n_steps: 1
  enable_progress_bar: false
  enable_model_summary: false
ckpt_path: last
"""

Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`vidpref VERB --config experiment.yaml FLAGS...` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VIDPREF_DEBUG", raising=False)
    Path("experiment.yaml").write_text(EXPERIMENT)

    def call(verb: str, *flags: str) -> int:
        return vidpref.main([verb, "--config", "experiment.yaml", *flags])

    return call


def metrics(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))
