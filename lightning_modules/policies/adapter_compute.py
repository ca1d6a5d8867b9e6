"""Adapters that are multiplied in 16 bits while their weights, gradients and optimizer states stay float32."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: The type that adapters are multiplied in. The model's own type saves memory: in float32 an adapter makes float32
#: copies of its layer's input and output.
AdapterCompute = Literal["float32", "bfloat16"]


class CastLinear(nn.Linear):
    """Linear layer that casts its weight to the type it multiplies in; the gradient comes back in the weight's type.

    Args:
        linear: whose parameters it takes over.
        dtype: the type of the product.
    """

    def __init__(self, linear: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.compute_dtype = dtype

    def forward(self, input: Tensor) -> Tensor:  # as torch names it
        """(..., in) of any type -> (..., out) of `dtype`."""
        bias = None if self.bias is None else self.bias.to(self.compute_dtype)
        return F.linear(input.to(self.compute_dtype), self.weight.to(self.compute_dtype), bias)


def check_adapter_compute(compute: AdapterCompute, adapted: bool) -> None:
    """Raise a ValueError where there is no adapter to compute in another type."""
    if compute != "float32" and not adapted:
        raise ValueError(f"policy.adapter_compute is {compute}, but there is no adapter; set policy.lora or .adapter")


def compute_adapters_in(model: nn.Module, compute: AdapterCompute) -> None:
    """Let a model's LoRA layers compute in a type; their parameters keep their names, type and place.

    Args:
        model: a model with adapters on linear layers.
        compute: float32 = as peft does it.

    Raises:
        ValueError: an adapter is on another kind of layer.
    """
    from peft.tuners.lora import LoraLayer

    if compute == "float32":
        return
    dtype: torch.dtype = getattr(torch, compute)
    for name, layer in model.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        parts: list[Any] = [layer.lora_A, layer.lora_B]
        if any(type(part) is not nn.Linear for adapters in parts for part in adapters.values()) or not parts[0]:
            raise ValueError(
                f"policy.adapter_compute is {compute}: the adapter of {name} is not on a linear layer, and computes in "
                "float32 only; take it from lora.targets, or leave adapter_compute out"
            )
        for adapters in parts:
            for adapter, linear in adapters.items():
                adapters[adapter] = CastLinear(linear, dtype)
        # peft would cast the layer's input to the weights' type before.
        layer.cast_input_dtype_enabled = False
