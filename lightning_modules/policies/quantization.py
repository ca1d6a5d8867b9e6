"""Base models in four bits, under adapters that train in float32: a 7B model then fits a card of 24 GB."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import torch

#: nf4 = the decoder's linears in 4-bit NormalFloat with double quantisation (QLoRA), through bitsandbytes.
Quantization = Literal["nf4"]


def check_quantization(quantization: Quantization | None, adapted: bool) -> None:
    """Refuse what a quantised base cannot be used for, before weights are read.

    Args:
        quantization: as in the settings; None = none.
        adapted: whether an adapter trains.

    Raises:
        ValueError: nothing could train, or the library is not installed.
    """
    if quantization is None:
        return
    if not adapted:
        raise ValueError("policy.quantization is nf4: four-bit weights do not train; set policy.lora or policy.adapter")
    if find_spec("bitsandbytes") is None:
        raise ValueError("policy.quantization is nf4: bitsandbytes is not installed; `pip install bitsandbytes`")


def quantize_on_meta(model: Any, quantization: Quantization, dtype: torch.dtype, kept: list[str]) -> None:
    """Give a model on the meta device the four-bit linears that it has when its weights are read, not packed yet.

    Args:
        model: of transformers.
        quantization: of its linears.
        dtype: of the weights before they are packed, and in which the matrices are multiplied.
        kept: modules that stay as they are.
    """
    from transformers.quantizers import AutoHfQuantizer

    linear_4bit: Any = import_module("bitsandbytes.nn").Linear4bit
    config = quantization_options(quantization, dtype, kept)["quantization_config"]
    quantizer = AutoHfQuantizer.from_config(config, pre_quantized=False)
    quantizer.preprocess_model(model, device_map=None)
    quantizer.postprocess_model(model)
    for linear in model.modules():
        if isinstance(linear, linear_4bit):
            linear.to(dtype)  # transformers makes them in torch's default type, and reads weights in this


def quantization_options(quantization: Quantization | None, dtype: torch.dtype, kept: list[str]) -> dict[str, Any]:
    """Arguments of `from_pretrained`.

    Args:
        quantization: None = none.
        dtype: in which the matrices are multiplied.
        kept: modules that stay as they are, the tower's and the output head.
    """
    if quantization is None:
        return {}
    from transformers import BitsAndBytesConfig

    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=kept,
        )
    }
