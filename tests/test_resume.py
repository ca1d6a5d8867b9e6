"""A killed run, started again, ends where the uninterrupted one does, to the last bit."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from tests.support.command_runs import fit, steps, write_uneven_shards
from tests.support.paths import ROOT
from tests.support.tiny_video_llava import save_tiny_video_llava

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
    killer = ["--trainer.callbacks+=tests.support.run_probes.KillAt", f"--trainer.callbacks.step={KILLED_AT}"]
    assert run(tmp_path, "broken", workers, *killer) == -signal.SIGKILL
    assert not (tmp_path / "broken/exports/last").exists()
    assert run(tmp_path, "broken", workers) == 0

    whole, broken = steps(tmp_path / "whole.jsonl"), steps(tmp_path / "broken.jsonl")
    assert [line["step"] for line in whole] == list(range(1, STEPS + 1))
    # The killed run's last steps came after its last checkpoint and are made again, with the same samples and losses.
    again = [line for line in broken if line["step"] > 4][-(STEPS - 4) :]
    assert again == whole[4:]
    adapter = "exports/last/adapter_model.safetensors"
    assert (tmp_path / "broken" / adapter).read_bytes() == (tmp_path / "whole" / adapter).read_bytes()


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two passes of three steps of four samples, and the same one killed after a checkpoint at step 2."""
    folder = tmp_path_factory.mktemp("killed")
    save_tiny_video_llava(folder / "tiny")
    write_uneven_shards(folder / "train", 12)
    assert run_passes(folder, "whole", 4, 1) == 0
    assert run_passes(
        folder, "broken", 4, 1, "--trainer.callbacks+=tests.support.run_probes.KillAt", "--trainer.callbacks.step=3"
    )
    return folder


def run_passes(folder: Path, name: str, batch_size: int, accumulation: int, *flags: str) -> int:
    every = ("--trainer.max_epochs=2", f"--trainer.accumulate_grad_batches={accumulation}")
    often = f"--trainer.callbacks.every_n_train_steps={2 if name == 'broken' else 50}"
    return run(folder, name, 0, "--trainer.max_steps=-1", f"--data.batch_size={batch_size}", *every, often, *flags)


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "flags"),
    [(2, 2, ()), (1, 4, ()), (2, 1, (f"{ROOT}/configs/strategy/ddp.yaml", "--trainer.devices=2"))],
    ids=["two micro-batches", "four micro-batches", "two processes"],
)
def test_a_run_goes_on_with_its_steps_split_otherwise(
    killed: Path, tmp_path: Path, batch_size: int, accumulation: int, flags: tuple[str, ...]
) -> None:
    """The same samples make the same steps, and the run ends after as many of them."""
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    (tmp_path / "broken.jsonl").unlink()
    assert run_passes(tmp_path, "broken", batch_size, accumulation, *flags) == 0
    whole, rest = steps(killed / "whole.jsonl"), steps(tmp_path / "broken.jsonl")
    assert [line["step"] for line in rest] == [3, 4, 5, 6]
    for one, other in zip(whole[2:], rest, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert other["norm"] == pytest.approx(one["norm"], rel=1e-5)


@pytest.mark.parametrize(
    "stop",
    [("--trainer.max_steps=2",), ("--trainer.limit_train_batches=2", "--trainer.max_epochs=1")],
    ids=["max_steps", "limit"],
)
def test_a_run_stopped_within_a_pass_is_not_shortened(killed: Path, tmp_path: Path, stop: tuple[str, ...]) -> None:
    """Its last checkpoint is written when it stops, not at a step."""
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    for flags in (stop, ()):
        assert run_passes(tmp_path, "stopped", 4, 1, *flags) == 0
    whole, stopped = steps(tmp_path / "whole.jsonl"), steps(tmp_path / "stopped.jsonl")
    assert [line["step"] for line in stopped] == [line["step"] for line in whole] == [1, 2, 3, 4, 5, 6]
    assert [line["keys"] for line in stopped] == [line["keys"] for line in whole]
