"""However a global batch is split over processes and micro-batches, loss and gradient norm are the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command_runs import fit, steps, write_uneven_shards
from tests.support.paths import ROOT
from tests.support.tiny_video_llava import save_tiny_video_llava

pytestmark = pytest.mark.slow
GLOBAL_BATCH, STEPS = 4, 3
DDP, FSDP, HSDP = (f"{ROOT}/configs/strategy/{name}.yaml" for name in ("ddp", "fsdp", "hsdp"))
FLOAT32 = "--trainer.strategy.param_dtype=float32"
TWICE = ("--trainer.devices=2", FLOAT32, "--trainer.accumulate_grad_batches=2")
#: As two nodes of one process each.
REPLICAS = ("--trainer.num_nodes=1", "--trainer.strategy.replicas=2", "--trainer.strategy.timeout=0:07:00")


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
        "--trainer.callbacks+=tests.support.run_probes.GradientReductions",
        f"--trainer.callbacks.path={name}.reductions.json",
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
        ("fsdp_accumulated", 1, [FSDP, *TWICE]),
        ("fsdp_sharded", 1, [FSDP, *TWICE, "--trainer.strategy.accumulation=sharded"]),
        ("hsdp_accumulated", 1, [HSDP, *TWICE, *REPLICAS]),
        ("hsdp_sharded", 1, [HSDP, *TWICE, *REPLICAS, "--trainer.strategy.accumulation=sharded"]),
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


@pytest.mark.parametrize(
    ("step", "sharded", "micro_batches"),
    [("fsdp_accumulated", "fsdp_sharded", 2), ("hsdp_accumulated", "hsdp_sharded", 1)],
)
def test_gradients_are_reduced_once_a_step(folder: Path, step: str, sharded: str, micro_batches: int) -> None:
    """Of two micro-batches; with a group of one process, only the reduction between groups is left, in both ways."""
    once, each = (json.loads((folder / f"{name}.reductions.json").read_text()) for name in (step, sharded))
    assert once["count"] > 0
    assert each["count"] == micro_batches * once["count"]
    assert once["timeout"] == (420 if "hsdp" in step else 1800)
