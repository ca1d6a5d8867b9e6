"""The reference and the exports on two processes, sharded by FSDP2 and not, against one process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from lightning.pytorch import Callback
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy

from callbacks.adapter_export import AdapterExport
from callbacks.reference.model import ReferenceModel
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from tests.callbacks.test_adapter_export import LORA, Pairs, vista
from tests.support.preference_fakes import make_trainer
from tests.support.tiny_video_llava import NUM_FRAMES, save_tiny_video_llava
from tests.support.two_ranks import own_store

pytestmark = pytest.mark.slow

STEPS, STOP = 5, 3
CASES = ("adapter-ddp", "adapter-fsdp", "copy-fsdp")


class Losses(Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.values.append(float(outputs["loss"]))


def run(folder: Path, checkpoint: str, case: str, steps: int, resume: bool = False) -> list[float]:
    """Train with a reference that follows; all ranks see the same batches, so one process is the truth."""
    mode, strategy = case.split("-")
    settings: dict[str, Any] = {"devices": 2, "use_distributed_sampler": False}
    if strategy == "fsdp":
        sizes = {"data_parallel_size": 2, "tensor_parallel_size": 1}
        settings["strategy"] = ModelParallelStrategy(**sizes, save_distributed_checkpoint=False)
    elif strategy == "ddp":
        settings["strategy"] = DDPStrategy(process_group_backend="gloo")
    else:
        settings = {}
    lora = LORA if mode == "adapter" else None
    policy = VideoLlavaPolicy(checkpoint, lora=lora, reference_adapter=lora is not None, num_frames=NUM_FRAMES)
    losses = Losses()
    reference = ReferenceModel(mode, refresh_every_n_steps=2, refresh_decay=0.5, guard_every_n_steps=1)
    trainer = make_trainer([reference, losses, AdapterExport(str(folder))], steps=steps, **settings)
    # New adapters are drawn at random when they are loaded.
    torch.manual_seed(0)
    data, before = Pairs(shift=STOP if resume else 0), folder / "run.ckpt" if resume else None
    trainer.fit(vista(policy, lr=0.02), data, ckpt_path=before)
    trainer.save_checkpoint(folder / "run.ckpt")
    return losses.values


def work(rank: int, store: dict[str, str], folder: Path, checkpoint: str) -> None:
    os.environ |= store | {
        "TORCHELASTIC_RUN_ID": "test",
        "WORLD_SIZE": "2",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "0",
    }
    torch.set_num_threads(1)
    for case in CASES:
        first = run(folder / case, checkpoint, case, STOP)
        rest = run(folder / case, checkpoint, case, STEPS, resume=True)
        if rank == 0:
            torch.save(first + rest, folder / case / "losses.pt")
    # Left to the interpreter's end, a group whose peer is gone sometimes takes its process down.
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_processes_follow_one(tmp_path: Path) -> None:
    checkpoint = str(save_tiny_video_llava(tmp_path / "tiny"))
    with own_store() as store:
        mp.spawn(work, args=(store, tmp_path, checkpoint), nprocs=2)
    for case in CASES:
        mode = case.split("-")[0]
        expected = run(tmp_path / mode, checkpoint, f"{mode}-alone", STEPS)
        assert torch.load(tmp_path / case / "losses.pt") == pytest.approx(expected, abs=1e-5), case
        truth, weights = exported(tmp_path / mode), exported(tmp_path / case)
        assert weights.keys() == truth.keys(), case
        assert all(torch.allclose(weights[name], truth[name], atol=1e-5) for name in truth), case


def exported(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    (path,) = (folder / "last").glob("*model.safetensors")
    return load_file(path)
