"""Transformer blocks compiled one by one."""

from __future__ import annotations

from typing import Any, Literal

#: blocks = each transformer block by itself, so that equal blocks share what was compiled and sharding stays possible.
Compile = Literal["blocks"]


def compile_blocks(policy: Any) -> None:
    """Let `torch.compile` make the kernels of a policy's blocks where the policy's `compiled` says so.

    Before sharding. Names of parameters do not change.

    Args:
        policy: a `VideoLLM` or `VideoFlow` that is loaded.
    """
    if getattr(policy, "compiled", None) == "blocks":
        for block in policy.blocks():
            block.compile()
