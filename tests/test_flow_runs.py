"""DenseDPO by the command: split batches equal the single process, and a killed run ends where the whole one does."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from lightning_modules.policies.wan import WanPolicy
from tests.support.command_runs import run_fit, steps
from tests.support.flow_shards import write_flow_shards
from tests.support.paths import ROOT
from tests.support.tiny_wan import TEXT_WIDTH, write_tiny_wan

pytestmark = pytest.mark.slow
GLOBAL_BATCH, STEPS = 4, 3
DDP, FSDP = f"{ROOT}/configs/strategy/ddp.yaml", f"{ROOT}/configs/strategy/fsdp.yaml"
FLOAT32 = "--trainer.strategy.param_dtype=float32"
#: One label a video: some are ties, so that a rank may have nothing but ties.
WHOLE = ["--model.granularity=whole", "--data.min_decided=0"]


def prepare(folder: Path, pairs: int) -> Path:
    """A tiny checkpoint, and pairs in its latent space whose labels are unevenly spread."""
    write_tiny_wan(folder / "tiny")
    write_flow_shards(folder, pairs, space=WanPolicy(str(folder / "tiny")).latent_space, width=TEXT_WIDTH)
    return folder


def fit(folder: Path, name: str, batch_size: int, *flags: str, **more: Any) -> int:
    settings = {
        "trainer.default_root_dir": name,
        "model.policy.path": "tiny",
        "model.policy.dtype": "float32",
        "model.policy.lora": "{r: 4, alpha: 8}",
        "model.policy.prompt_length": 8,
        "model.optimizer.lr": 0.01,
        "model.supervised_weight": 0.1,
        "model.warmup": 0,
        "data.train": "pairs.index.json",
        "data.train_labels": "labels.index.json",
        "data.num_workers": 0,
        "data.batch_size": batch_size,
    }
    config = f"{ROOT}/configs/dense_dpo/wan_lora.yaml"
    done = run_fit(folder, config, settings | more, *flags, probe=f"{name}.jsonl")
    assert done.returncode in (0, -signal.SIGKILL), done.stdout + done.stderr
    return done.returncode


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint, shards, and the single process's runs."""
    made = prepare(tmp_path_factory.mktemp("equivalence"), 15)
    for name, flags in (("single", []), ("single_whole", WHOLE)):
        assert fit(made, name, GLOBAL_BATCH, f"--trainer.max_steps={STEPS}", *flags) == 0
    return made


@pytest.mark.parametrize(
    ("name", "batch_size", "flags"),
    [
        ("accumulated", 1, ["--trainer.accumulate_grad_batches=4"]),
        ("ddp", 2, [DDP, "--trainer.devices=2"]),
        ("fsdp", 2, [FSDP, "--trainer.devices=2", FLOAT32]),
        ("fsdp_accumulated", 1, [FSDP, "--trainer.devices=2", FLOAT32, "--trainer.accumulate_grad_batches=2"]),
        ("ddp_in_turn", 2, [DDP, "--trainer.devices=2", "--model.videos=in_turn"]),
        ("fsdp_in_turn", 2, [FSDP, "--trainer.devices=2", FLOAT32, "--model.videos=in_turn"]),
        ("whole", 1, [DDP, "--trainer.devices=2", "--trainer.accumulate_grad_batches=2", *WHOLE]),
    ],
)
def test_split_batches_with_uneven_ties_give_the_single_processs_loss(
    folder: Path, name: str, batch_size: int, flags: list[str]
) -> None:
    assert fit(folder, name, batch_size, *flags, f"--trainer.max_steps={STEPS}") == 0
    alone = "single_whole" if name == "whole" else "single"
    single, split = steps(folder / f"{alone}.jsonl"), steps(folder / f"{name}.jsonl")
    assert len(split) == len(single) == STEPS
    for one, other in zip(single, split, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert other["norm"] == pytest.approx(one["norm"], rel=1e-5)
    # The run moves, or equality would say nothing.
    assert abs(single[0]["loss"] - single[-1]["loss"]) > 1e-3


def content(path: Path) -> tuple[dict[str, str], dict[str, bytes]]:
    """Metadata and the tensors' bytes; in the file itself the order of the metadata is by chance."""
    with safe_open(path, framework="np") as file:
        return file.metadata(), {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118


def test_killed_in_mid_epoch_and_resumed_is_bit_identical(tmp_path: Path) -> None:
    # Ten of twelve pairs are taken, in batches of three: the plan's epochs end in the middle of one.
    prepare(tmp_path, 12)
    total, killed_at = 8, 6
    saved = [
        "--trainer.callbacks+=ModelCheckpoint",
        "--trainer.callbacks.every_n_train_steps=4",
        "--trainer.callbacks.save_last=true",
        "--trainer.callbacks.enable_version_counter=false",
        f"--trainer.max_steps={total}",
    ]
    killer = ["--trainer.callbacks+=tests.support.run_probes.KillAt", f"--trainer.callbacks.step={killed_at}"]

    def run(name: str, *flags: str) -> int:
        return fit(tmp_path, name, 3, *saved, f"--trainer.callbacks.dirpath={name}/checkpoints", *flags)

    assert run("whole") == 0
    assert run("broken", *killer) == -signal.SIGKILL
    assert not (tmp_path / "broken/exports/last").exists()
    assert run("broken") == 0

    whole, broken = steps(tmp_path / "whole.jsonl"), steps(tmp_path / "broken.jsonl")
    assert [line["step"] for line in whole] == list(range(1, total + 1))
    # The killed run's last steps came after its last checkpoint and are made again, with the same pairs and losses.
    assert [line for line in broken if line["step"] > 4][-(total - 4) :] == whole[4:]
    (adapter,) = (tmp_path / "whole/exports/last").glob("*.safetensors")
    assert content(tmp_path / "broken/exports/last" / adapter.name) == content(adapter)
