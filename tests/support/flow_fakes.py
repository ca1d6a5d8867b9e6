"""A flow model of two matrices, batches of random pairs, and a policy that says what it is told."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from peft import LoraConfig
from torch import Tensor, nn

from datamodules.dense.batches import LatentBatch, PairBatch
from datamodules.dense.inputs import Prompt
from lightning_modules.dense_dpo import DenseDPO
from lightning_modules.policies.adapters import add_adapters, reference_mode
from lightning_modules.policies.video_flow import error_weight

#: Channels, latent frames, height and width of the batches' latents.
SHAPE = (3, 5, 2, 4)
SEGMENTS = torch.tensor([0, 0, 1, 1, 2])
#: Labels of three segments for each pair in turn.
LABELS = ((1, 0, -1), (0, 0, 0), (1, 1, 0), (-1, -1, -1))
PROMPT_WIDTH = 3


class TableFlow(nn.Module):
    """Predicts given velocities, others in reference mode, and notes what it was asked."""

    prediction = "velocity"

    def __init__(self, velocities: Tensor, reference: Tensor) -> None:
        super().__init__()
        self.velocities = nn.Parameter(velocities)
        self.reference = reference
        self.asked: list[tuple[Tensor, Tensor, list[Prompt]]] = []
        self._is_reference = False

    def forward(self, noisy: Tensor, t: Tensor, prompts: Sequence[Prompt], conditions: Sequence[Any] = ()) -> Tensor:
        self.asked.append((noisy, t, list(prompts)))
        return self.reference if self._is_reference else self.velocities

    def error_weight(self, t: Tensor, error_of: Any = None) -> Tensor:
        return error_weight(t, error_of or self.prediction)

    def predicted_frames(self, frames: int, condition: Any) -> Tensor:
        return torch.ones(frames, dtype=torch.bool)

    @contextmanager
    def reference_mode(self) -> Iterator[None]:
        self._is_reference = True
        yield
        self._is_reference = False


class TinyFlow(nn.Module):
    """Fills what training asks of `VideoFlow`, in milliseconds; `start` stands for an adapter that was trained."""

    entry_points = ()
    prediction = "velocity"

    def __init__(self, lora: bool = True, start: float = 0.0, with_reference: bool = False) -> None:
        super().__init__()
        self.lora, self.start, self.with_reference = lora, start, with_reference
        self.model: Any = None
        self.passes: list[int] = []

    def load(self, meta: bool = False) -> None:
        if self.model is not None:
            return
        with torch.random.fork_rng():
            torch.manual_seed(0)
            channels = SHAPE[0]
            self.model = nn.ModuleDict({"body": nn.Linear(channels, 8), "head": nn.Linear(8, channels)})
            if self.lora:
                config = LoraConfig(r=2, lora_alpha=8, target_modules=["body"])
                self.model.requires_grad_(False)
                self.model = add_adapters(self.model, config, self.with_reference)
        for name, parameter in self.named_parameters():
            if "lora_B" in name:
                nn.init.constant_(parameter, self.start)

    @property
    def net(self) -> Any:
        return self.model.get_base_model() if self.lora else self.model

    def forward(self, noisy: Tensor, t: Tensor, prompts: Sequence[Prompt], conditions: Sequence[Any] = ()) -> Tensor:
        self.passes.append(len(noisy))
        seen = torch.stack([prompt["embeds"].mean() for prompt in prompts]) + t
        body = self.net["body"](noisy.movedim(1, -1)) + seen.view(-1, 1, 1, 1, 1)
        velocity: Tensor = self.net["head"](torch.tanh(body)).movedim(-1, 1)
        return velocity.float()

    def reference_mode(self) -> Any:
        return reference_mode(self)

    def error_weight(self, t: Tensor, error_of: Any = None) -> Tensor:
        return error_weight(t, error_of or self.prediction)

    def predicted_frames(self, frames: int, condition: Any) -> Tensor:
        return torch.ones(frames, dtype=torch.bool)


@dataclass
class Loader:
    """Gives the same batches in every pass, fresh ones: a step writes into them."""

    batches: list[Any]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(copy.deepcopy(self.batches))


class Given(LightningDataModule):
    """Finished batches."""

    def __init__(self, batches: list[Any], val: list[Any] | None = None) -> None:
        super().__init__()
        self.batches, self.val = batches, val

    def train_dataloader(self) -> Loader:
        return Loader(self.batches)

    def val_dataloader(self) -> Any:
        return Loader(self.val) if self.val else []


def pair_batch(
    labels: Sequence[Sequence[int]] = LABELS, first: int = 0, masked: Sequence[int] = (), form: str = "per_frame"
) -> PairBatch:
    """Pairs p{first}, p{first + 1} ... with the given labels of three segments, each drawn from its own seed."""
    numbers = range(first, first + len(labels))
    drawn = [torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(number)) for number in numbers]
    firsts, seconds, noise = torch.stack(drawn).unbind(1)
    mask = torch.tensor([place not in masked for place in range(len(labels))])
    given = torch.tensor(labels) * mask[:, None]
    each = given[:, SEGMENTS].to(torch.int8)
    whole = given.sum(-1).sign().to(torch.int8)
    counts = {"per_frame": each != 0, "per_video": (each != 0).any(-1), "whole": whole != 0}
    return PairBatch(
        keys=[f"p{number}" for number in numbers],
        first=firsts,
        second=seconds,
        prompts=[{"embeds": torch.full((2 + number % 3, PROMPT_WIDTH), 0.1 * number)} for number in numbers],
        noise=noise,
        t=torch.tensor([0.1 + 0.8 * (number % 5) / 4 for number in numbers]),
        labels=each,
        segments=SEGMENTS.expand(len(labels), -1).clone(),
        preference=whole,
        mask=mask,
        denominators={
            "preference": float(counts[form].sum().clamp_min(1)),
            "supervised": float(counts["whole" if form == "whole" else "per_frame"].sum().clamp_min(1)),
        },
    )


def latent_batch(count: int = 3, masked: Sequence[int] = ()) -> LatentBatch:
    pairs = pair_batch(LABELS[:count], masked=masked)
    real = float(pairs.mask.sum().clamp_min(1))
    return LatentBatch(pairs.keys, pairs.first, pairs.prompts, pairs.noise, pairs.t, pairs.mask, {"supervised": real})


def dense_module(policy: Any | None = None, lr: float = 0.05, **settings: Any) -> DenseDPO:
    optimizer = partial(torch.optim.SGD, lr=lr)
    return DenseDPO(policy or TinyFlow(), optimizer, **{"warmup": 0, "beta": 50.0} | settings)
