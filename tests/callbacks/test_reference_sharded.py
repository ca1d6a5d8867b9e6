"""The reference and the exports on two processes, sharded by FSDP2 and not, against one process."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from lightning.pytorch import Callback
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from preference_fakes import make_trainer
from test_adapter_export import LORA, Pairs, vista
from tiny_video_llava import NUM_FRAMES, save_tiny_video_llava

from callbacks.adapter_export import AdapterExport
from callbacks.reference_model import ReferenceModel
from lightning_modules.policies.video_llava import VideoLlavaPolicy

pytestmark = pytest.mark.slow

STEPS, STOP = 4, 3


class Losses(Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.values.append(float(outputs["loss"]))


def run(folder: Path, checkpoint: str, mode: Any, strategy: str, steps: int, resume: bool = False) -> list[float]:
    """Train with a reference that follows; both ranks see the same batches, so one process is the truth."""
    settings: dict[str, Any] = {}
    if strategy == "fsdp":
        parallel = ModelParallelStrategy(
            data_parallel_size=2, tensor_parallel_size=1, save_distributed_checkpoint=False
        )
        settings = {"strategy": parallel, "devices": 2, "use_distributed_sampler": False}
    elif strategy == "ddp":
        settings = {
            "strategy": DDPStrategy(process_group_backend="gloo"),
            "devices": 2,
            "use_distributed_sampler": False,
        }
    lora = LORA if mode == "adapter" else None
    policy = VideoLlavaPolicy(checkpoint, lora=lora, reference_adapter=lora is not None, num_frames=NUM_FRAMES)
    losses = Losses()
    reference = ReferenceModel(mode, refresh_every_n_steps=2, refresh_decay=0.5, guard_every_n_steps=1)
    trainer = make_trainer([reference, losses, AdapterExport(str(folder))], steps=steps, **settings)
    # New adapters are drawn at random when they are loaded.
    torch.manual_seed(0)
    trainer.fit(
        vista(policy, lr=0.02), Pairs(shift=STOP if resume else 0), ckpt_path=folder / "run.ckpt" if resume else None
    )
    trainer.save_checkpoint(folder / "run.ckpt")
    return losses.values


def work(rank: int, port: int, folder: Path, checkpoint: str, mode: str, strategy: str) -> None:
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "test",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "0",
    }
    torch.set_num_threads(1)
    first = run(folder, checkpoint, mode, strategy, STOP)
    rest = run(folder, checkpoint, mode, strategy, STEPS + 1, resume=True)
    if rank == 0:
        torch.save(first + rest, folder / "losses.pt")


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("mode", ["adapter", "copy"])
def test_two_processes_follow_one(mode: str, strategy: str, tmp_path: Path) -> None:
    checkpoint = str(save_tiny_video_llava(tmp_path / "tiny"))
    alone, both = tmp_path / "alone", tmp_path / "both"
    expected = run(alone, checkpoint, mode, "one", STEPS + 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(work, args=(port, both, checkpoint, mode, strategy), nprocs=2)
    assert torch.load(both / "losses.pt") == pytest.approx(expected, abs=1e-5)
    assert exported(both, mode).keys() == exported(alone, mode).keys()
    for name, value in exported(alone, mode).items():
        assert torch.allclose(exported(both, mode)[name], value, atol=1e-5), name


def exported(folder: Path, mode: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "last" / ("adapter_model.safetensors" if mode == "adapter" else "model.safetensors"))
