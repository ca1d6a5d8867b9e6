"""What a LoRA step of each video diffusion family takes in memory, computed from the shapes of its weights.

`python -m benchmarks.speed.flow_memory` prints the numbers of docs/families.md. Nothing is allocated: transformers are
built on the meta device, in the sizes of the published checkpoints.

Counted: the weights in bfloat16; an adapter of rank 128 with its gradient and AdamW's two moments, in float32; the
inputs of all blocks for the two videos of a pair, and what one block keeps while it is computed again. Not counted: the
allocator's slack, and what CUDA and the libraries take.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from lightning_modules.policies.cogvideox import CogVideoXPolicy
from lightning_modules.policies.diffusers_flow import DiffusersVideoFlow
from lightning_modules.policies.hunyuan_video15 import HunyuanVideo15Policy
from lightning_modules.policies.ltx import LTXPolicy
from lightning_modules.policies.wan import WanPolicy

RANK = 128
#: Tensors of a token's width that a block keeps: inputs and outputs of norms, projections, attention, residuals.
_KEPT = 14


@dataclass(frozen=True, slots=True)
class Case:
    """A checkpoint at its usual size.

    Attributes:
        policy: its class.
        video: frames, height and width.
        tokens: of one video of that size, with the text where it passes the same blocks.
        sizes: of the transformer, where they are not diffusers' defaults.
    """

    policy: type[DiffusersVideoFlow]
    video: tuple[int, int, int]
    tokens: int
    sizes: Mapping[str, Any] = field(default_factory=dict)


CASES: dict[str, Case] = {
    "Wan2.1-T2V-1.3B": Case(
        WanPolicy, (81, 480, 832), 21 * 30 * 52, {"num_attention_heads": 12, "num_layers": 30, "ffn_dim": 8960}
    ),
    "Wan2.1-T2V-14B": Case(WanPolicy, (81, 480, 832), 21 * 30 * 52),
    "Wan2.2-A14B, an expert": Case(WanPolicy, (81, 480, 832), 21 * 30 * 52),
    "Wan2.2-TI2V-5B": Case(
        WanPolicy,
        (121, 704, 1280),
        31 * 22 * 40,
        {"num_attention_heads": 24, "num_layers": 30, "ffn_dim": 14336, "in_channels": 48, "out_channels": 48},
    ),
    "LTX-Video": Case(LTXPolicy, (161, 512, 704), 21 * 16 * 22),
    "HunyuanVideo-1.5": Case(HunyuanVideo15Policy, (121, 480, 848), 31 * 30 * 53 + 1256),
    "CogVideoX-2b": Case(CogVideoXPolicy, (49, 480, 720), 13 * 30 * 45 + 226),
    "CogVideoX-5b": Case(
        CogVideoXPolicy,
        (49, 480, 720),
        13 * 30 * 45 + 226,
        {"num_attention_heads": 48, "num_layers": 42, "use_rotary_positional_embeddings": True},
    ),
}


def step_bytes(case: Case) -> dict[str, int]:
    """Bytes of a step by what they are for, with the number of weights as "parameters"."""
    import diffusers

    with torch.device("meta"):
        model = getattr(diffusers, case.policy.transformer)(**case.sizes)
    targets: Any = case.policy.linears
    # A family whose blocks vary makes its pattern from the configuration; there is no policy to ask here.
    if isinstance(targets, property):
        assert targets.fget is not None
        targets = targets.fget(SimpleNamespace(config=model.config))
    linears = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and re.fullmatch(targets, name)
    ]
    blocks = sum(len(getattr(model, name)) for name in case.policy.block_lists)
    width, widest = linears[0].in_features, max(module.out_features for module in linears)
    parameters = sum(weight.numel() for weight in model.parameters())
    adapter = sum(RANK * (module.in_features + module.out_features) for module in linears)
    return {
        "parameters": parameters,
        "weights": 2 * parameters,  # bfloat16
        "adapter": 16 * adapter,  # weight, gradient and two moments in float32
        "block inputs": 2 * 2 * case.tokens * width * blocks,  # two videos, in bfloat16
        "one block": 2 * 2 * case.tokens * (_KEPT * width + 3 * widest),
    }


def main() -> None:
    """Print a line a checkpoint."""
    for name, case in CASES.items():
        parts = step_bytes(case)
        parameters = parts.pop("parameters")
        shown = ", ".join(f"{part} {size / 1e9:.1f}" for part, size in parts.items())
        size = " x ".join(map(str, case.video))
        print(f"{name}: {parameters / 1e9:.1f} B, {size}: {sum(parts.values()) / 1e9:.0f} GB ({shown})")


if __name__ == "__main__":
    main()
