"""Four-bit weights without memory: as bitsandbytes stores them, and what it does to multiply by them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


class FourBitOperations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Mode in which a product by packed weights is what it is on CUDA: the weight is unpacked, then multiplied by.

    bitsandbytes has one operation for both, which hides the unpacked weight and the product. For a few rows, and for
    small matrices up to 1,500 rows, it has kernels that unpack nothing; a training step has more rows.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation."""
        if func.name() == "bitsandbytes::gemm_4bit":
            # It is part of a forward, and of one that is repeated within backward: the tracker tells that by gradients,
            # which are off inside an operation that has a backward of its own.
            with torch.enable_grad():
                return _unpacked_product(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _unpacked_product(
    rows: Tensor,
    packed: Tensor,
    shape: Any,
    scales: Tensor,
    block: int,
    kind: str,
    bias: Tensor | None = None,
    absmax_8bit: Tensor | None = None,  # the last three as the operation names them
    absmax_code: Tensor | None = None,
    absmax_offset: Tensor | None = None,
) -> Tensor:
    operations = torch.ops.bitsandbytes
    if absmax_8bit is not None:
        # Double quantisation: 8 bits a block, and float32 for each 256 blocks.
        scales = operations.dequantize_blockwise(absmax_8bit, scales, absmax_code, 256, torch.float32) + absmax_offset
    weight = operations.dequantize_4bit(packed, scales, block, kind, shape, rows.dtype)
    # As matrices: operations of this level are not taken apart any further, and only these are counted.
    flat = rows.flatten(0, -2)
    product = flat.mm(weight.t()) if bias is None else torch.addmm(bias, flat, weight.t())
    return product.view(*rows.shape[:-1], -1)


def is_four_bit(weight: Tensor) -> bool:
    """Whether a parameter is one of bitsandbytes in four bits, packed or not yet."""
    return hasattr(weight, "quant_state")


def fake_packed(weight: Any, device: str) -> Any:
    """What bitsandbytes makes of a four-bit layer's weight when it moves to a device.

    Args:
        weight: on the meta device, in its shape and type before it is packed.
        device: where the fake tensors pretend to be; a mode of fake tensors is on.
    """
    functional: Any = import_module("bitsandbytes.functional")

    if "dynamic" not in functional.name2qmap:
        # The library keeps this table for every later weight of the process, which must not be a fake one.
        with torch._subclasses.fake_tensor.unset_fake_temporarily():
            functional.name2qmap["dynamic"] = functional.create_dynamic_map()
    packed, state = functional.quantize_4bit(
        torch.empty(weight.shape, dtype=weight.dtype, device=device),
        blocksize=weight.blocksize,
        compress_statistics=weight.compress_statistics,
        quant_type=weight.quant_type,
        quant_storage=weight.quant_storage,
    )
    made: Any = nn.Parameter(packed, requires_grad=False)
    made.quant_state = state
    return made


def scales_of(weight: Any) -> list[Tensor]:
    """What a packed weight keeps beside itself: scales of its blocks, scales of these, tables; [] of another."""
    state = getattr(weight, "quant_state", None)
    if state is None:
        return []
    tensors = [state.absmax, state.code]
    if state.nested:
        tensors += [state.offset, state.state2.absmax, state.state2.code]
    return tensors
