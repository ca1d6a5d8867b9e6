"""A datamodule with a trainer, or with what it asks of one, and a model that notes what it is given."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from datamodules.schemas import write_shards
from datamodules.vista.batches import VistaBatch
from datamodules.vista.samples import ALL_NEEDS, Box, Needs
from datamodules.vista.vista_pairs import VistaPairs
from tests.support.annotated_videos import annotated, numbered_video
from tests.support.quiet_trainer import quiet_trainer

COUNT = 11


class Eye:
    """Stands in for a policy: sees a part of every frame, all of it unless given."""

    frame_fit = "processor"

    def __init__(self, seen: Box | None = None) -> None:
        self.seen = seen

    def visible(self, height: int, width: int) -> Box:
        return self.seen or Box(0, 0, width, height)


class Recorder(LightningModule):
    """Stands in for a method: says what it needs, and notes what it was given."""

    def __init__(self, needs: Needs = ALL_NEEDS) -> None:
        super().__init__()
        self.asked = needs
        self.policy = Eye()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[int, list[str]]] = []
        self.validated: list[str] = []

    def needs(self) -> Needs:
        return self.asked

    def training_step(self, batch: VistaBatch, batch_idx: int) -> torch.Tensor:
        self.seen.append((batch.epoch, batch.keys))
        return self.weight * 1.0

    def validation_step(self, batch: VistaBatch, batch_idx: int) -> None:
        self.validated += [key for key, there in zip(batch.keys, batch.mask.tolist(), strict=True) if there]

    def predict_step(self, batch: VistaBatch, batch_idx: int) -> VistaBatch:
        return copy.copy(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def eleven_samples(folder: Path) -> Path:
    """Eleven samples of six videos; some lack a clip, a box or an irrelevant answer."""
    samples = []
    for number in range(COUNT):
        lacks: dict[str, Any] = {}
        if number % 3 == 0:
            lacks["event"] = None
        if number % 4 == 0:
            lacks["boxes"] = ()
        if number % 5 == 0:
            lacks["irrelevant"] = None
        video = {"mp4": numbered_video(number // 2)}
        samples.append(annotated(f"s{number:02d}", f"video{number // 2}", video, **lacks))
    write_shards([(row.key, members) for row, members in samples], folder / "train", samples_per_shard=4)
    return folder / "train.index.json"


def pairs(shards: Path, **settings: Any) -> VistaPairs:
    return VistaPairs(**({"train": str(shards), "num_frames": 4, "batch_size": 2, "seed": 5} | settings))


def attached(data: VistaPairs, needs: Needs = ALL_NEEDS, stage: str = "fit", **changes: Any) -> VistaPairs:
    """As if a trainer had called `setup`, without the cost of one."""
    trainer: dict[str, Any] = {
        "lightning_module": Recorder(needs),
        "accumulate_grad_batches": 1,
        "limit_train_batches": 1.0,
        "fast_dev_run": False,
        "distributed_sampler_kwargs": None,
        "strategy": SimpleNamespace(root_device=torch.device("cpu")),
    }
    data.trainer = SimpleNamespace(**(trainer | changes))  # type: ignore[assignment]
    data.setup(stage)
    return data


def trainer(folder: Path, **settings: Any) -> Trainer:
    return quiet_trainer(**{"default_root_dir": folder, "use_distributed_sampler": False} | settings)


def frames_by_key(batches: Sequence[VistaBatch]) -> dict[tuple[str, str], torch.Tensor]:
    return {
        (batch.keys[view.sample], view.name): view.frames
        for batch in batches
        for view in batch.views
        if batch.mask[view.sample]
    }
