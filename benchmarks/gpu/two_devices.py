"""The first steps of both toys' fits on the CPU and on the GPU: losses and gradients to 1e-4."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from torch.optim import Optimizer

from benchmarks.gpu.row import Outcome, Setting
from benchmarks.speed.models import train_a_little
from benchmarks.toy.commands import ROOT
from callbacks.reference.model import ReferenceModel
from datamodules.dense.dense_pairs import DensePairs
from datamodules.prepare.toy import prepare_toy
from datamodules.vista.vista_pairs import VistaPairs
from lightning_modules.dense_dpo import DenseDPO
from lightning_modules.policies.adapters import LoraSettings
from lightning_modules.policies.flow_adapters import FlowLora
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from lightning_modules.policies.wan import WanPolicy
from lightning_modules.preference import PreferenceModule
from lightning_modules.vista_dpo import VistaDPO

WORLD = ROOT / "datamodules/toy_world"
#: Losses differ by at most this, gradients by this share of the largest.
TOLERANCE = 1e-4
STEPS = 3


class Steps(Callback):
    """Steps of a fit: the loss of each, and the gradient of the first."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.gradient = torch.empty(0)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the adapters away from 0: policy and reference would be equal."""
        train_a_little(pl_module, seed=0)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Keep the first gradient."""
        if not len(self.gradient):
            gradients = [weight.grad for weight in pl_module.parameters() if weight.grad is not None]
            self.gradient = torch.cat([gradient.flatten().double().cpu() for gradient in gradients])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss."""
        self.losses.append(float(outputs["loss"]))


def measure(setting: Setting) -> Outcome:
    """Fit each toy twice, a few steps, and compare."""
    # On by default, and good for three digits of the first layer, which is a convolution in both models.
    torch.backends.cudnn.allow_tf32 = False
    values, faults = {}, []
    for name, make in TOYS.items():
        cpu = run(make, setting.scratch, "cpu")
        # Without a GPU: the same processor without its library of fast kernels, so that digits differ, too.
        other = torch.backends.mkldnn.flags(enabled=False) if setting.dry_run else nullcontext()
        gpu = run(make, setting.scratch, setting.accelerator, other)
        values[name] = differences(cpu, gpu)
        if not (values[name]["loss"] <= TOLERANCE and values[name]["gradient"] <= TOLERANCE):
            faults.append(f"{name} differs by more than {TOLERANCE:g}")
    summary = "; ".join(
        f"{name}: losses differ by {value['loss']:.1e}, gradients by {value['gradient']:.1e} of the largest"
        for name, value in values.items()
    )
    return Outcome(summary, values, "; ".join(faults))


def run(
    make: Callable[[Path], tuple[PreferenceModule, LightningDataModule]],
    folder: Path,
    accelerator: str,
    around: AbstractContextManager[Any] | None = None,
) -> Steps:
    """The first steps of a fit.

    Args:
        make: makes the method and its data.
        folder: for shards.
        accelerator: Lightning's name of the device.
        around: entered for the fit.
    """
    seed_everything(0, verbose=False)
    module, data = make(folder)
    steps = Steps()
    trainer = Trainer(
        accelerator=accelerator, devices=1, max_steps=STEPS, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        callbacks=[ReferenceModel(), steps], default_root_dir=folder,
    )  # fmt: skip
    with around or nullcontext():
        trainer.fit(module, data)
    return steps


def differences(one: Steps, other: Steps) -> dict[str, Any]:
    """How far apart two fits are: the largest difference of a loss, and of a gradient as a share of the largest."""
    loss = max(abs(left - right) for left, right in zip(one.losses, other.losses, strict=True))
    gradient = float((one.gradient - other.gradient).abs().max() / one.gradient.abs().max())
    return {"loss": loss, "gradient": gradient, "losses": [one.losses, other.losses]}


def _sgd(parameters: Any) -> Optimizer:
    # Adam's first steps go by the sign of a gradient, which rounding decides where it is next to 0.
    return torch.optim.SGD(parameters, lr=1e-3)


def vista_toy(folder: Path) -> tuple[PreferenceModule, LightningDataModule]:
    """VistaDPO as configs/toy/vista.yaml has it."""
    shards = folder / "vista"
    if not Path(f"{shards}.index.json").is_file():
        prepare_toy(str(shards), num_videos=8)
    policy = VideoLlavaPolicy(str(WORLD / "checkpoints/video_llava"), lora=LoraSettings(16, 32), num_frames=4)
    module = VistaDPO(policy, _sgd, warmup=0.0)
    return module, VistaPairs(train=f"{shards}.index.json", num_frames=4, batch_size=4)


def dense_toy(folder: Path) -> tuple[PreferenceModule, LightningDataModule]:
    """DenseDPO as configs/toy/wan_dense.yaml has it."""
    policy = WanPolicy(str(WORLD / "checkpoints/wan"), lora=FlowLora(16, 16), prompt_length=16)
    pairs = WORLD / "pairs"
    data = DensePairs(
        train=str(pairs / "train.index.json"), train_labels=str(pairs / "labels.index.json"), batch_size=4
    )
    return DenseDPO(policy, _sgd, warmup=0), data


TOYS: dict[str, Callable[[Path], tuple[PreferenceModule, LightningDataModule]]] = {
    "VistaDPO": vista_toy,
    "DenseDPO": dense_toy,
}
