"""A killed run, started again, ends where the uninterrupted one does, to the last bit."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from command_runs import fit, steps, write_uneven_shards
from tiny_video_llava import save_tiny_video_llava

pytestmark = pytest.mark.slow
# Eleven samples in batches of two: passes of five batches, the plan's epochs end in the middle of one.
SAMPLES, STEPS, KILLED_AT = 11, 8, 6


def run(folder: Path, name: str, workers: int, *flags: str) -> int:
    done = fit(
        folder,
        f"--trainer.default_root_dir={name}",
        f"--trainer.max_steps={STEPS}",
        "--data.batch_size=2",
        f"--data.num_workers={workers}",
        "--trainer.callbacks+=ModelCheckpoint",
        f"--trainer.callbacks.dirpath={name}/checkpoints",
        "--trainer.callbacks.every_n_train_steps=4",
        "--trainer.callbacks.save_last=true",
        "--trainer.callbacks.enable_version_counter=false",
        *flags,
        probe=f"{name}.jsonl",
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stdout + done.stderr
    return done.returncode


@pytest.mark.parametrize("workers", [0, 2])
def test_killed_in_mid_epoch_and_resumed_is_bit_identical(tmp_path: Path, workers: int) -> None:
    save_tiny_video_llava(tmp_path / "tiny")
    write_uneven_shards(tmp_path / "train", SAMPLES)
    assert run(tmp_path, "whole", workers) == 0
    killer = ["--trainer.callbacks+=run_probes.KillAt", f"--trainer.callbacks.step={KILLED_AT}"]
    assert run(tmp_path, "broken", workers, *killer) == -signal.SIGKILL
    assert not (tmp_path / "broken/exports").exists()
    assert run(tmp_path, "broken", workers) == 0

    whole, broken = steps(tmp_path / "whole.jsonl"), steps(tmp_path / "broken.jsonl")
    assert [one["step"] for one in whole] == list(range(1, STEPS + 1))
    # The killed run's last steps came after its last checkpoint and are made again, with the same samples and losses.
    again = [one for one in broken if one["step"] > 4][-(STEPS - 4) :]
    assert again == whole[4:]
    adapter = "exports/last/adapter_model.safetensors"
    assert (tmp_path / "broken" / adapter).read_bytes() == (tmp_path / "whole" / adapter).read_bytes()
