"""What the data modules of latents ask of a trainer and a model, and a model that notes what it is given."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, TypeVar

import torch
from lightning.pytorch import LightningModule

from datamodules.dense.batches import ItemKind, LatentBatch, PairBatch
from datamodules.dense.latent_space import LatentSpace
from datamodules.stream.planned_data import PlannedData
from tests.support.flow_shards import SPACE, WIDTH

KINDS: dict[str, ItemKind] = {
    "frames": "decided_frames",
    "videos": "decided_videos",
    "pairs": "decided_pairs",
}
DataT = TypeVar("DataT", bound=PlannedData)


class FlowRecorder(LightningModule):
    """Stands in for a method: says what its denominators count, and notes what it was given."""

    def __init__(self, items: Mapping[str, ItemKind] = KINDS, space: LatentSpace = SPACE, **policy: Any) -> None:
        super().__init__()
        self.counted = dict(items)
        takes: dict[str, Any] = {
            "times": (0.0, 1.0),
            "prompt_shapes": {"embeds": (4, WIDTH)},
            "condition_fault": lambda *_: None,
        }
        self.policy = SimpleNamespace(latent_space=space, **takes | policy)
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[tuple[Any, ...]] = []
        self.validated: list[tuple[str, float]] = []

    def items(self) -> dict[str, ItemKind]:
        return self.counted

    def training_step(self, batch: PairBatch | LatentBatch, batch_idx: int) -> torch.Tensor:
        noise = batch.noise.flatten(1).sum(-1).tolist()
        self.seen.append((batch.epoch, batch.keys, batch.t.tolist(), noise, batch.denominators))
        return self.weight * 1.0

    def validation_step(self, batch: PairBatch | LatentBatch, batch_idx: int) -> None:
        there = batch.mask.tolist()
        self.validated += [(key, t) for key, t, real in zip(batch.keys, batch.t.tolist(), there, strict=True) if real]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def attached(
    data: DataT, module: Any = None, stage: str = "fit", rank: int = 0, world: int = 1, **changes: Any
) -> DataT:
    """As if a trainer had called `setup`, without the cost of one."""
    trainer: dict[str, Any] = {
        "lightning_module": module or FlowRecorder(),
        "accumulate_grad_batches": 1,
        "limit_train_batches": 1.0,
        "fast_dev_run": False,
        "distributed_sampler_kwargs": {"num_replicas": world, "rank": rank},
        "strategy": SimpleNamespace(root_device=torch.device("cpu")),
        "is_global_zero": rank == 0,
    }
    data.trainer = SimpleNamespace(**(trainer | changes))
    data.setup(stage)
    return data
