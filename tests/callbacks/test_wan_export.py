"""What a fit of a video flow model leaves behind: an adapter for diffusers' pipeline, or a whole transformer."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from callbacks.adapter_export import AdapterExport
from datamodules.dense.batches import LatentBatch
from lightning_modules.policies.flow_adapters import FlowLora
from lightning_modules.policies.wan import WanPolicy
from lightning_modules.supervised_flow import SupervisedFlow
from tests.support.preference_fakes import Batches, make_trainer
from tests.support.tiny_wan import LATENT_CHANNELS, TEXT_WIDTH, write_tiny_wan

PROMPT_LENGTH, LORA = 8, FlowLora(r=4, alpha=12)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_wan(tmp_path_factory.mktemp("wan")))


def make_batch(seed: int) -> LatentBatch:
    generator = torch.Generator().manual_seed(seed)
    draw = partial(torch.randn, 2, LATENT_CHANNELS, 3, 4, 4, generator=generator)
    prompts = [{"embeds": torch.randn(3, TEXT_WIDTH, generator=generator)} for _ in range(2)]
    mask = torch.ones(2, dtype=torch.bool)
    return LatentBatch([f"a{seed}", f"b{seed}"], draw(), prompts, draw(), torch.rand(2), mask, {"supervised": 2.0}, 0)


class Data(LightningDataModule):
    def train_dataloader(self) -> Any:
        return Batches([make_batch(seed) for seed in range(3)])


def fitted(policy: WanPolicy, folder: Path) -> WanPolicy:
    module = SupervisedFlow(policy, partial(torch.optim.SGD, lr=0.05), warmup=0)
    make_trainer([AdapterExport(str(folder))], steps=3).fit(module, Data())
    return policy


def velocity(policy: WanPolicy) -> Tensor:
    policy.load()
    batch = make_batch(9)
    with torch.no_grad():
        return policy(batch.noise, torch.tensor([0.3, 0.8]), batch.prompts)


@pytest.mark.parametrize(
    ("settings", "argument"), [({"lora": LORA, "activation_checkpointing": True}, "adapter"), ({}, "weights")]
)
def test_what_was_trained_is_what_was_exported(
    path: str, tmp_path: Path, settings: dict[str, Any], argument: str
) -> None:
    policy = fitted(WanPolicy(path, prompt_length=PROMPT_LENGTH, **settings), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".last.json", "last"]
    again = WanPolicy(path, prompt_length=PROMPT_LENGTH, **{argument: str(tmp_path / "last")})
    torch.testing.assert_close(velocity(again), velocity(policy))
    base = velocity(WanPolicy(path, prompt_length=PROMPT_LENGTH))
    assert not torch.allclose(velocity(policy), base, atol=1e-4)


def test_training_goes_on_from_an_exported_adapter(path: str, tmp_path: Path) -> None:
    first = fitted(WanPolicy(path, prompt_length=PROMPT_LENGTH, lora=LORA), tmp_path / "first")
    policy = WanPolicy(path, prompt_length=PROMPT_LENGTH, adapter=str(tmp_path / "first" / "last"))
    fitted(policy, tmp_path / "second")
    with policy.reference_mode():
        torch.testing.assert_close(velocity(policy), velocity(first))
    assert not torch.allclose(velocity(policy), velocity(first), atol=1e-5)
