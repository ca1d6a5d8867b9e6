"""What the tests of the Wan policy share."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from lightning_modules.policies.flow_adapters import FlowLora
from lightning_modules.policies.wan import WanPolicy
from tests.support.tiny_wan import LATENT_CHANNELS, TEXT_WIDTH

#: Short, so that nothing waits for padding; alpha differs from r, so that a lost alpha shows.
PROMPT_LENGTH, LORA = 24, FlowLora(r=4, alpha=12)
PROMPTS = ["a red ball moves left", "it"]


def build_policy(path: Path, nudged: bool = True, **settings: Any) -> WanPolicy:
    """A loaded policy; unless said otherwise its fresh adapter is not zero."""
    policy = WanPolicy(str(path), **{"prompt_length": PROMPT_LENGTH, **settings})
    policy.load()
    if nudged:
        nudge(policy)
    return policy


def nudge(policy: nn.Module) -> None:
    """Give the trained adapter, which starts at zero, something to say, alike in shards and in one piece."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B.default" in name:
                drawn = torch.randn(parameter.shape, generator=generator) * 0.2
                sharded = isinstance(parameter, DTensor)
                parameter.copy_(
                    distribute_tensor(drawn, parameter.device_mesh, parameter.placements) if sharded else drawn
                )


def noisy_batch(batch: int = 2, seed: int = 0) -> dict[str, Any]:
    """Arguments of `velocity`."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "noisy": torch.randn(batch, LATENT_CHANNELS, 3, 4, 4, generator=generator),
        "t": torch.rand(batch, generator=generator) * 0.8 + 0.1,
        "prompts": [{"embeds": torch.randn(3 + 2 * row, TEXT_WIDTH, generator=generator)} for row in range(batch)],
    }


def velocity_of(policy: WanPolicy, reference: bool = False) -> Tensor:
    """The velocity of one batch, without a gradient."""
    with torch.no_grad():
        if not reference:
            return policy(**noisy_batch())
        with policy.reference_mode():
            return policy(**noisy_batch())


def untrained(policy: nn.Module) -> list[str]:
    """Names of what shall train and got no gradient, or one that is 0 throughout."""
    return [
        name
        for name, parameter in policy.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    ]


def read_pipeline(folder: Path) -> Any:
    """diffusers' own pipeline, silent."""
    from diffusers import WanPipeline

    pipeline = WanPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def with_schedule(pipeline: Any, sigmas: list[float], shift: float = 1.0) -> Any:
    """The pipeline with diffusers' Euler scheduler on these noise levels, which the scheduler shifts."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    class Given(FlowMatchEulerDiscreteScheduler):
        def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
            super().set_timesteps(sigmas=sigmas, device=device)

    pipeline.scheduler = Given(shift=shift)
    return pipeline


def write_two_experts(source: Path, other: Path, folder: Path) -> Path:
    """A pipeline as Wan2.2-A14B has it: `other`'s transformer below noise level 0.875."""
    shutil.copytree(source, folder)
    shutil.copytree(other / "transformer", folder / "transformer_2")
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"boundary_ratio": 0.875, "transformer_2": ["diffusers", "WanTransformer3DModel"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
