"""FSDP2 by configuration: sizes and types, and a run of the command on two processes that resumes on one."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import ModelParallelStrategy

import vidpref
from lightning_modules.strategies import AdapterFSDP
from tests.support.command_runs import fit
from tests.support.paths import ROOT
from tests.support.tiny_video_llava import save_tiny_video_llava


def test_precision_is_the_policys_default_unless_given() -> None:
    assert AdapterFSDP().mixed_precision is None
    policy = AdapterFSDP(param_dtype="bfloat16").mixed_precision
    assert policy is not None
    assert (policy.param_dtype, policy.reduce_dtype) == (torch.bfloat16, torch.float32)
    assert policy.cast_forward_inputs is False


def test_every_process_is_a_data_parallel_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def record(self: AdapterFSDP) -> None:
        seen.update(data=self._data_parallel_size, tensor=self._tensor_parallel_size)

    monkeypatch.setattr(ModelParallelStrategy, "setup_environment", record)
    strategy = AdapterFSDP()
    strategy.num_nodes = 2
    strategy.parallel_devices = [torch.device("cpu")] * 3
    strategy.setup_environment()
    assert seen == {"data": 6, "tensor": 1}


def test_replicas_must_divide_the_processes() -> None:
    strategy = AdapterFSDP(replicas="nodes")
    strategy.num_nodes, strategy.parallel_devices = 3, [torch.device("cpu")] * 4
    assert strategy._num_replicas() == 3
    with pytest.raises(ValueError, match="replicas is 0; give 1 or more"):
        AdapterFSDP(replicas=0)
    uneven = AdapterFSDP(replicas=5)
    uneven.num_nodes, uneven.parallel_devices = 3, [torch.device("cpu")] * 4
    with pytest.raises(ValueError, match=r"replicas is 5, .* the 12 processes \(3 nodes of 4\)"):
        uneven.setup_environment()


def losses(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]


@pytest.mark.slow
def test_two_processes_by_the_command_then_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The FSDP2 overlay gives one device's losses at the same global batch, and its checkpoint resumes there."""
    monkeypatch.chdir(tmp_path)
    save_tiny_video_llava("tiny")
    assert vidpref.main(["prepare", "toy", "train", "--num_videos", "8"]) == 0

    def run(root: str, batch_size: int, epochs: int, *flags: str) -> Path:
        settings = {
            "trainer.default_root_dir": root,
            "trainer.max_epochs": epochs,
            "trainer.log_every_n_steps": 1,
            "model.schedule": "constant",
            "model.warmup": 0,
            "data.batch_size": batch_size,
        }
        done = fit(tmp_path, *flags, *(f"--{name}={value}" for name, value in settings.items()))
        assert done.returncode == 0, done.stdout + done.stderr
        return sorted((tmp_path / root / "fit").iterdir())[-1]

    overlay = [
        f"{ROOT}/configs/strategy/fsdp.yaml",
        "--trainer.strategy.param_dtype=null",
        "--trainer.devices=2",
    ]
    one = losses(run("one", 2, 2))
    two = losses(run("two", 1, 1, *overlay))
    assert len(two) == 4
    assert two == pytest.approx(one[:4], rel=1e-5)
    saved = torch.load("two/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert saved
    assert all("lora_" in name for name in saved)
    assert losses(run("two", 2, 2)) == pytest.approx(one[4:], rel=1e-5)
