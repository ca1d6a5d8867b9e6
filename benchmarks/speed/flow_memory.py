"""What a LoRA step of each video diffusion family takes in memory, computed from the shapes of its weights.

`python -m benchmarks.speed.flow_memory` prints the table of docs/families.md. Nothing is allocated: transformers are
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
from lightning_modules.policies.mochi import MochiPolicy
from lightning_modules.policies.wan import WanPolicy

RANK = 128
GIB = 2.0**30
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


_WAN_480P = 21 * 30 * 52
_FIVE_B = {"num_attention_heads": 48, "num_layers": 42, "use_rotary_positional_embeddings": True}
#: Checkpoint -> what it is, from its published configuration.
CASES: dict[str, Case] = {
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": Case(
        WanPolicy, (81, 480, 832), _WAN_480P, {"num_attention_heads": 12, "num_layers": 30, "ffn_dim": 8960}
    ),
    "Wan-AI/Wan2.1-T2V-14B-Diffusers": Case(WanPolicy, (81, 480, 832), _WAN_480P),
    "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers": Case(
        WanPolicy, (81, 480, 832), _WAN_480P, {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120}
    ),
    "Wan-AI/Wan2.2-T2V-A14B-Diffusers, an expert": Case(WanPolicy, (81, 480, 832), _WAN_480P),
    "Wan-AI/Wan2.2-I2V-A14B-Diffusers, an expert": Case(WanPolicy, (81, 480, 832), _WAN_480P, {"in_channels": 36}),
    "Wan-AI/Wan2.2-TI2V-5B-Diffusers": Case(
        WanPolicy,
        (121, 704, 1280),
        31 * 22 * 40,
        {"num_attention_heads": 24, "num_layers": 30, "ffn_dim": 14336, "in_channels": 48, "out_channels": 48},
    ),
    "Lightricks/LTX-Video": Case(LTXPolicy, (161, 512, 704), 21 * 16 * 22),
    "hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-480p_t2v": Case(
        HunyuanVideo15Policy, (121, 480, 848), 31 * 30 * 53 + 1256
    ),
    "THUDM/CogVideoX-2b": Case(CogVideoXPolicy, (49, 480, 720), 13 * 30 * 45 + 226),
    "THUDM/CogVideoX-5b": Case(CogVideoXPolicy, (49, 480, 720), 13 * 30 * 45 + 226, _FIVE_B),
    # Two latent frames a token, one of which leads.
    "THUDM/CogVideoX1.5-5B": Case(CogVideoXPolicy, (81, 768, 1360), 11 * 48 * 85 + 226, _FIVE_B | {"patch_size_t": 2}),
    "genmo/mochi-1-preview": Case(MochiPolicy, (163, 480, 848), 28 * 30 * 53 + 256),
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


def table() -> str:
    """The table of the documentation, in Markdown."""
    lines = ["| checkpoint | frames x height x width | parameters | weights | LoRA step |", "|---|---|---:|---:|---:|"]
    for name, case in CASES.items():
        parts = step_bytes(case)
        parameters = parts.pop("parameters")
        identifier, comma, part = name.partition(",")
        cells = (
            f"`{identifier}`{comma}{part}",
            " x ".join(map(str, case.video)),
            f"{parameters / 1e9:.1f} B",
            f"{parts['weights'] / GIB:.1f} GiB",
            f"{sum(parts.values()) / GIB:.0f} GiB",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
