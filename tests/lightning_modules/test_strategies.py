"""FSDP2 by configuration: sizes and types, and a run of the command on two processes that resumes on one."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from tiny_video_llava import save_tiny_video_llava

import vidpref
from lightning_modules.strategies import AdapterFSDP

ROOT = Path(__file__).resolve().parents[2]


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


def losses(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]


@pytest.mark.slow
def test_two_processes_by_the_command_then_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The FSDP2 overlay gives one device's losses at the same global batch, and its checkpoint resumes there."""
    monkeypatch.chdir(tmp_path)
    save_tiny_video_llava("tiny")
    assert vidpref.main(["prepare", "toy", "data/train", "--num_videos", "8"]) == 0

    def fit(root: str, batch_size: int, epochs: int, *flags: str) -> Path:
        command = [
            sys.executable,
            "-m",
            "vidpref",
            "fit",
            "--config",
            f"{ROOT}/configs/vista_dpo/video_llava_lora.yaml",
        ]
        command += [*flags, "--trainer.default_root_dir", root, "--trainer.max_epochs", str(epochs)]
        command += [
            "--trainer.accelerator",
            "cpu",
            "--trainer.precision",
            "32-true",
            "--trainer.log_every_n_steps",
            "1",
        ]
        command += ["--trainer.accumulate_grad_batches", "1", "--trainer.enable_progress_bar", "false"]
        command += ["--model.policy.path", "tiny", "--model.policy.dtype", "float32", "--model.policy.lora.r", "4"]
        command += ["--model.optimizer.lr", "0.001", "--model.schedule", "constant", "--model.warmup", "0"]
        command += ["--data.train", "data/train.index.json", "--data.num_workers", "0"]
        command += ["--data.batch_size", str(batch_size)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return sorted((tmp_path / root / "fit").iterdir())[-1]

    overlay = ["--config", f"{ROOT}/configs/strategy/fsdp.yaml", "--trainer.strategy.param_dtype", "null"]
    one = losses(fit("one", 2, 2))
    two = losses(fit("two", 1, 1, *overlay, "--trainer.devices", "2"))
    assert len(two) == 4
    assert two == pytest.approx(one[:4], rel=1e-5)
    saved = torch.load("two/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert saved
    assert all("lora_" in name for name in saved)
    assert losses(fit("two", 2, 2)) == pytest.approx(one[4:], rel=1e-5)
