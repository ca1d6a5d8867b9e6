"""A model and data that the command can run in a second: what the tests of the command are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.utils.data import DataLoader

from datamodules.vista.batches import VistaBatch


@dataclass
class Shape:
    width: int = 4
    depth: int = 1


class TinyPolicy(nn.Module):
    def __init__(self, path: str, shape: Shape = Shape()) -> None:  # noqa: B008
        super().__init__()
        self.path = path
        self.layers = nn.Sequential(*(nn.Linear(shape.width, shape.width) for _ in range(shape.depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


class TinyModule(LightningModule):
    def __init__(
        self,
        policy: TinyPolicy,
        optimizer: OptimizerCallable = torch.optim.SGD,
        beta: float = 0.1,
        fail_at: int | None = None,
    ) -> None:
        super().__init__()
        self.policy, self.optimizer, self.beta, self.fail_at = policy, optimizer, beta, fail_at

    def training_step(self, batch: VistaBatch, batch_idx: int) -> dict[str, Any]:
        if self.fail_at is not None and self.global_step >= self.fail_at:
            raise ValueError(f"sample {batch.keys[0]} is bad")
        torch.manual_seed(batch_idx)
        loss = self.beta * self.policy(torch.randn(2, 4)).square().mean()
        self.log_dict({"train/loss": loss.detach(), "train/loss/response": loss.detach()}, batch_size=2)
        return {"loss": loss, "terms": {}, "keys": batch.keys}

    def test_step(self, batch: VistaBatch, batch_idx: int) -> None:
        self.log("test/number", float(batch_idx), batch_size=2)

    def configure_optimizers(self) -> Any:
        return self.optimizer([parameter for parameter in self.parameters() if parameter.requires_grad])


def _batch(numbers: list[int]) -> VistaBatch:
    return VistaBatch([f"sample-{n}" for n in numbers], [], torch.ones(len(numbers), dtype=torch.bool))


class TinyData(LightningDataModule):
    def __init__(self, train: str, batches: int = 4) -> None:
        super().__init__()
        self.train, self.batches = train, batches

    def _loader(self) -> Any:
        return DataLoader(range(2 * self.batches), batch_size=2, collate_fn=_batch)  # type: ignore[arg-type]

    def train_dataloader(self) -> Any:
        return self._loader()

    def test_dataloader(self) -> Any:
        return self._loader()


def exit_status(call: Callable[[], Any]) -> Any:
    """The status with which a call leaves the interpreter."""
    with pytest.raises(SystemExit) as caught:
        call()
    return caught.value.code
