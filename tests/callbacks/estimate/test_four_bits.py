"""Four-bit weights: the bytes that bitsandbytes itself keeps, and the step of the real layers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import nn

from callbacks.estimate.fakes import FakeMode, load_fake
from callbacks.estimate.four_bits import FourBitOperations, is_four_bit, scales_of
from callbacks.estimate.step import StepRun
from callbacks.estimate.tracker import StepTracker, Work
from lightning_modules.policies.quantization import quantize_on_meta
from tests.callbacks.estimate.test_step import cost, vista

#: The CI installs the extra before its slow tests.
pytestmark = pytest.mark.slow
INPUTS, OUTPUTS = 192, 1024


class Layers(nn.Module):
    """Two linears on the meta device, one of which stays as it is; loads like a policy."""

    def __init__(self) -> None:
        super().__init__()
        with torch.device("meta"):
            self.packed, self.kept = nn.Linear(INPUTS, OUTPUTS, bias=False), nn.Linear(INPUTS, 64)

    def load(self, meta: bool) -> None:
        """Nothing: it is on the meta device already."""


def stored(weight: Any) -> list[int]:
    """Bytes of a packed weight and of everything beside it, by the storages."""
    return [tensor.untyped_storage().nbytes() for tensor in (weight, *scales_of(weight))]


@pytest.mark.parametrize("double", [False, True])
def test_bytes_are_those_of_a_real_layer(double: bool) -> None:
    bnb = pytest.importorskip("bitsandbytes")
    made = bnb.nn.Linear4bit(INPUTS, OUTPUTS, bias=False, quant_type="nf4", compress_statistics=double)
    real = made.to("cpu").weight
    layers = Layers()
    layers.packed = bnb.nn.Linear4bit(
        INPUTS, OUTPUTS, bias=False, quant_type="nf4", compress_statistics=double, device="meta"
    )
    load_fake(layers, FakeMode())
    blocks = INPUTS * OUTPUTS // 64
    # Half a byte a weight; a number a block of 64 and a table of 16; of 8-bit numbers their mean, scales and table.
    numbers = [INPUTS * OUTPUTS // 2, blocks, 64, 4, blocks // 256 * 4, 1024] if double else [98304, 4 * blocks, 64]
    assert stored(layers.packed.weight) == stored(real) == numbers
    assert layers.kept.weight.untyped_storage().nbytes() == 4 * INPUTS * 64
    # The library's own table is no fake one afterwards.
    assert type(bnb.functional.name2qmap["dynamic"]) is torch.Tensor


def test_a_product_unpacks_the_weight_for_its_time() -> None:
    bnb = pytest.importorskip("bitsandbytes")
    made = bnb.nn.Linear4bit(INPUTS, OUTPUTS, bias=True, compute_dtype=torch.float32, quant_type="nf4")
    layer, rows = made.to("cpu"), torch.ones(2, 3, INPUTS, requires_grad=True)
    expected = layer(rows)
    tracker = StepTracker()
    with tracker, FourBitOperations(), tracker.during("forward"):
        product = layer(rows)
        with tracker.during("backward"):
            product.sum().backward()
    torch.testing.assert_close(product, expected)
    matrix = 4 * INPUTS * OUTPUTS
    assert tracker.peaks["forward"] >= matrix
    assert tracker.peaks["backward"] >= matrix
    assert tracker.now < matrix / 4
    one = 2 * 6 * INPUTS * OUTPUTS
    assert {work.phase: count for work, count in tracker.flops.items()} == {"forward": one, "backward": one}
    assert Work("forward", "matmul", "float32") in tracker.flops


def test_what_is_kept_is_not_packed() -> None:
    bnb = pytest.importorskip("bitsandbytes")
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2, "vocab_size": 8}
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=1, attention_bias=True, **sizes))
    quantize_on_meta(model, "nf4", torch.bfloat16, ["lm_head", "model.layers.0.mlp"])
    packed = [name for name, module in model.named_modules() if isinstance(module, bnb.nn.Linear4bit)]
    assert packed == [f"model.layers.0.self_attn.{name}_proj" for name in "qkvo"]
    attention = model.model.layers[0].self_attn.q_proj
    assert attention.weight.compress_statistics  # double quantisation, as the policies have it
    assert (attention.weight.dtype, attention.bias.dtype) == (torch.bfloat16, torch.bfloat16)


@pytest.mark.parametrize("options", [{}, {"activation_checkpointing": True, "dtype": "bfloat16"}])
def test_fake_four_bits_cost_what_real_ones_do(options: dict[str, Any]) -> None:
    pytest.importorskip("bitsandbytes")
    fake, real = (cost(vista(quantization="nf4", **options), StepRun(), kind) for kind in (True, False))
    assert asdict(fake) == asdict(real)
    plain = cost(vista(**options), StepRun(), True)
    module = vista(quantization="nf4", **options)
    module.policy.load()
    counts = [weight.quant_state.shape.numel() for weight in module.policy.parameters() if is_four_bit(weight)]
    # Half a byte a weight, a byte a block, 4 bytes for 256 blocks, and what every layer has: tables and a mean.
    packed = sum(count // 2 + count // 64 + 4 * -(count // -(64 * 256)) + 64 + 4 + 1024 for count in counts)
    saved = sum(counts) * (2 if options.get("dtype") else 4) - packed
    assert plain.weights - fake.weights == saved > 0
    # The products are the same: they are of unpacked weights.
    assert fake.flops == plain.flops
