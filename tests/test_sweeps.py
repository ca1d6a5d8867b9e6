"""wandb sweeps: the command line that the agent would build is built with wandb's own code, and run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from callbacks.cli.parse_line import ParseLine
from tests.support.paths import ROOT
from tests.test_configs import relative

SWEEPS = sorted((ROOT / "configs" / "sweeps").glob("*.yaml"))

utils = pytest.importorskip("wandb.sdk.launch.sweeps.utils", reason="wandb is an extra; `make install` brings it")


def trial(sweep: dict[str, Any], last: bool) -> dict[str, Any]:
    """One trial's values as the server sends them: of each parameter the first or the last."""

    def pick(parameter: dict[str, Any]) -> Any:
        if "value" in parameter:
            return parameter["value"]
        if "values" in parameter:
            return parameter["values"][-1 if last else 0]
        return parameter["max" if last else "min"]

    return {name: {"value": pick(parameter)} for name, parameter in sweep["parameters"].items()}


def agents_command(sweep: dict[str, Any], values: dict[str, Any], folder: Path) -> list[str]:
    """What the agent runs; it fills in these places of a sweep's command."""
    made = utils.create_sweep_command_args({"args": values})
    file = folder / "values.json"
    file.write_text(made["args_json"][0])
    places = {"${env}": "/usr/bin/env", "${interpreter}": sys.executable, "${program}": sweep["program"]}
    places["${args_json_file}"] = str(file)
    return [places.get(part, part) for part in utils.create_sweep_command(sweep["command"])]


@pytest.fixture
def _in_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    monkeypatch.setenv("WANDB_RUN_ID", "t17")


@pytest.mark.usefixtures("_in_a_trial")
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("path", SWEEPS, ids=relative)
def test_values_reach_the_configuration_with_their_types(
    path: Path, last: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    sweep = yaml.safe_load(path.read_text())
    values = trial(sweep, last)
    config = ParseLine(agents_command(sweep, values, tmp_path)[3:]).config.fit
    for name, value in values.items():
        found = config[name]
        if name == "trainer.default_root_dir":
            assert found == f"{value['value']}/t17", "every trial has a folder of its own"
        else:
            assert found == value["value"]
            assert type(found) is type(value["value"])
    if sweep["metric"]["name"].startswith("val/"):
        assert config.data.init_args.val, "what decides is measured on held-out samples"


def test_outside_a_sweep_the_folder_is_the_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RUN_ID", "resumed-by-hand")
    monkeypatch.delenv("WANDB_SWEEP_ID", raising=False)
    config = ParseLine(["fit", "--config", str(ROOT / "configs/toy/vista.yaml")]).config.fit
    assert config.trainer.default_root_dir == "runs/toy/vista"


@pytest.mark.slow
def test_a_trial_of_the_toy_sweep_runs_offline(tmp_path: Path) -> None:
    """The exact command line, from a folder that holds the repository but has its own runs."""
    for entry in ROOT.iterdir():
        if entry.name not in ("runs", "wandb", ".git"):
            (tmp_path / entry.name).symlink_to(entry)
    sweep = yaml.safe_load((ROOT / "configs/sweeps/toy_vista.yaml").read_text())
    command = agents_command(sweep, trial(sweep, last=True), tmp_path)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "WANDB_MODE": "offline",
        "WANDB_SWEEP_ID": "sweep",
        "WANDB_RUN_ID": "t17",
    }

    def run(arguments: list[str]) -> str:
        done = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    for split in ("train", "val"):
        run(
            [
                sys.executable,
                "vidpref.py",
                "prepare",
                "toy",
                f"runs/toy/data/{split}",
                "--split",
                split,
                "--num_videos=16",
            ]
        )
    run(command)
    folder = tmp_path / "runs/sweeps/toy_vista/t17"
    assert (folder / "exports/last/adapter_config.json").is_file()
    record = next(folder.rglob("config.yaml"))
    assert yaml.safe_load(record.read_text())["data"]["init_args"]["resample_each_epoch"] is True
    assert list((tmp_path / "runs").rglob("run-t17.wandb")), "wandb keeps the trial under its id"
    assert json.loads((tmp_path / "values.json").read_text())["model.init_args.beta"] == 0.2
