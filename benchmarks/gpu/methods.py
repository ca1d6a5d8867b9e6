"""The two methods as their recipes have them, on checkpoints with random weights, and batches in memory."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from callbacks.estimate.batches import Sizes, batch_of
from datamodules.dense.batches import PairBatch
from datamodules.dense.inputs import Prompt
from datamodules.vista.batches import VistaBatch
from datamodules.vista.shared_frames import share_frames
from datamodules.vista.vista_pairs import VistaPairs
from lightning_modules.dense_dpo import DenseDPO
from lightning_modules.policies.adapters import LoraSettings
from lightning_modules.policies.flow_adapters import FlowLora
from lightning_modules.policies.video_llava import VideoLlavaPolicy
from lightning_modules.policies.wan import WanPolicy
from lightning_modules.preference import PreferenceModule
from lightning_modules.vista_dpo import VistaDPO


@dataclass(frozen=True, slots=True)
class Method:
    """Method with the sizes of its step.

    Attributes:
        module: not loaded.
        data: the data module, of which only settings are read.
        sizes: of a sample.
        precision: of the trainer on one device; under FSDP2 the strategy's types decide.
        sample: what a sample is, in words.
    """

    module: PreferenceModule
    data: Any
    sizes: Sizes
    precision: str
    sample: str


def method_of(name: str, checkpoint: Path, small: bool) -> Method:
    """A method on a checkpoint.

    Args:
        name: "vista" as configs/vista_dpo/video_llava_lora.yaml, or "dense" as configs/dense_dpo/wan_lora.yaml.
        checkpoint: its folder, see `random_weights`.
        small: sizes of a dry run.
    """
    return (_vista if name == "vista" else _dense)(str(checkpoint), small)


def _vista(path: str, small: bool) -> Method:
    frames, rank = (2, 4) if small else (8, 64)
    policy = VideoLlavaPolicy(
        path, lora=LoraSettings(rank, 2 * rank), num_frames=frames, dtype="bfloat16", activation_checkpointing=True
    )
    sizes = Sizes(height=28, width=40, question=12, answer=4) if small else Sizes(height=360, width=640)
    module = VistaDPO(policy, lambda p: torch.optim.AdamW(p, lr=1e-5, weight_decay=0.0), warmup=0.0)
    sample = f"six views of {frames} frames of {sizes.height} x {sizes.width}, answers of {sizes.answer} tokens"
    return Method(module, VistaPairs(num_frames=frames), sizes, "bf16-mixed", f"{sample}, LoRA {rank}")


def _dense(path: str, small: bool) -> Method:
    rank, prompt, shape = (4, 8, (16, 3, 4, 6)) if small else (128, 512, (16, 21, 60, 104))
    policy = WanPolicy(
        path, lora=FlowLora(rank, rank), prompt_length=prompt, dtype="bfloat16", activation_checkpointing=True
    )
    module = DenseDPO(policy, lambda p: torch.optim.AdamW(p, lr=1e-5, weight_decay=0.0), warmup=0)
    sample = f"two videos of {' x '.join(map(str, shape))} latents, LoRA {rank}"
    return Method(module, None, Sizes(latents=shape), "32-true", sample)


class Batches(IterableDataset[Any]):
    """Batches of one sample, the same again and again: nothing is read or decoded.

    Args:
        method: whose they are; its policy has read its processor, but no weights.
        count: how many there are.
        pinned: in page-locked memory, as the loader has them for a GPU.
    """

    def __init__(self, method: Method, count: int, pinned: bool = False) -> None:
        self.count = count
        self.batch = filled(batch_of(method.module, method.data, method.sizes, 1))
        if pinned:
            self.batch.pin_memory()

    def __iter__(self) -> Iterator[Any]:
        """Copies, into which a step puts what it encodes."""
        return (copy.copy(self.batch) for _ in range(self.count))


def filled(batch: Any) -> Any:
    """A batch of zeros as one of random numbers: a card that multiplies zeros draws less power and runs faster."""
    generator = torch.Generator().manual_seed(0)
    if isinstance(batch, PairBatch):
        first, second, noise = (torch.randn(batch.first.shape, generator=generator) for _ in range(3))
        prompts: list[Prompt] = [
            {name: torch.randn(stream.shape, generator=generator) for name, stream in prompt.items()}
            for prompt in batch.prompts
        ]
        return replace(batch, first=first, second=second, noise=noise, prompts=prompts)
    assert isinstance(batch, VistaBatch)
    frames: dict[int, Tensor] = {}

    def noisy(frame: Tensor) -> Tensor:
        # Frames that are shown twice, which their first pixels number, stay equal: a tower sees them once.
        number = int(frame[0, 0, 0]) + 256 * int(frame[0, 1, 0])
        if number not in frames:
            frames[number] = torch.randint(256, frame.shape, dtype=torch.uint8, generator=generator)
        return frames[number]

    views = [view.with_frames(torch.stack([noisy(frame) for frame in view.frames])) for view in batch.views]
    return replace(batch, views=share_frames(views))
