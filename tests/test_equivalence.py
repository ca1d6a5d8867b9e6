"""However a global batch is split over processes and micro-batches, loss and gradient norm are the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_runs import fit, steps, write_uneven_shards
from tests.support.paths import ROOT
from tests.support.tiny_video_llava import save_tiny_video_llava

pytestmark = pytest.mark.slow
GLOBAL_BATCH, STEPS = 4, 3
DDP, FSDP = f"{ROOT}/configs/strategy/ddp.yaml", f"{ROOT}/configs/strategy/fsdp.yaml"
FLOAT32 = "--trainer.strategy.param_dtype=float32"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint, the uneven shards, and the single process's run."""
    made = tmp_path_factory.mktemp("equivalence")
    save_tiny_video_llava(made / "tiny")
    write_uneven_shards(made / "train", 12)
    run(made, "single", GLOBAL_BATCH)
    return made


def run(folder: Path, name: str, batch_size: int, *flags: str) -> None:
    done = fit(
        folder,
        *flags,
        f"--trainer.default_root_dir={name}",
        f"--trainer.max_steps={STEPS}",
        f"--data.batch_size={batch_size}",
        probe=f"{name}.jsonl",
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "batch_size", "flags"),
    [
        ("accumulated", 1, ["--trainer.accumulate_grad_batches=4"]),
        ("ddp", 2, [DDP, "--trainer.devices=2"]),
        ("ddp_accumulated", 1, [DDP, "--trainer.devices=2", "--trainer.accumulate_grad_batches=2"]),
        ("fsdp", 2, [FSDP, "--trainer.devices=2", FLOAT32]),
        ("fsdp_accumulated", 1, [FSDP, "--trainer.devices=2", FLOAT32, "--trainer.accumulate_grad_batches=2"]),
    ],
)
def test_split_batches_give_the_single_processs_loss_and_gradient_norm(
    folder: Path, name: str, batch_size: int, flags: list[str]
) -> None:
    run(folder, name, batch_size, *flags)
    single, split = steps(folder / "single.jsonl"), steps(folder / f"{name}.jsonl")
    assert len(split) == len(single) == STEPS
    for one, other in zip(single, split, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert other["norm"] == pytest.approx(one["norm"], rel=1e-5)
    # The run moves, or equality would say nothing.
    assert abs(single[0]["loss"] - single[-1]["loss"]) > 1e-3
