"""Four-bit base models below adapters, as far as bitsandbytes runs on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_modules.policies import quantization
from lightning_modules.policies.sharding import check_shardable
from tests.support.family_cases import checkpoint, family_views, loaded, make_policy


def rounded(policy: Any, plain: Any) -> Any:
    """The plain policy with the weights to which the other's were rounded."""
    import bitsandbytes as bnb

    modules = dict(plain.base.named_modules())
    with torch.no_grad():
        for name, module in policy.base.named_modules():
            if isinstance(module, bnb.nn.Linear4bit):
                exact = bnb.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
                modules[name].weight.copy_(exact)
    return plain


@pytest.mark.slow  # the CI installs the extra before its slow tests
@pytest.mark.parametrize("kind", ["qwen2_5_vl", "pllava", "smolvlm"])
def test_four_bits_are_the_rounded_model_and_only_the_adapter_trains(kind: str, folder: Path) -> None:
    pytest.importorskip("bitsandbytes")
    path, views = checkpoint(kind, folder), family_views()
    policy, plain = loaded(path, quantization="nf4"), loaded(path)
    scores = policy.score(policy.encode(views)).log_probs
    with torch.no_grad():
        exact = plain.score(plain.encode(views)).log_probs
        other = rounded(policy, plain)
        same = other.score(other.encode(views)).log_probs
    torch.testing.assert_close(scores.detach(), same, rtol=1e-4, atol=1e-4)
    assert (exact - same).abs().max() > 1e-1
    scores.sum().backward()
    trained = {name for name, parameter in policy.named_parameters() if parameter.grad is not None}
    assert trained
    assert all("lora_" in name for name in trained)
    four_bits = [name for name, parameter in policy.base.named_parameters() if parameter.dtype == torch.uint8]
    assert four_bits
    assert all("language_model" in name or "text_model" in name for name in four_bits)


def test_what_four_bits_cannot_do_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checkpoint("qwen2_5_vl", folder)
    with pytest.raises(ValueError, match=r"four-bit weights do not train; set policy.lora or policy.adapter"):
        make_policy(path, quantization="nf4")
    from lightning_modules.policies.adapters import LoraSettings

    monkeypatch.setattr(quantization, "find_spec", lambda name: name)  # as where the library is
    with pytest.raises(ValueError, match="four-bit weights are not sharded"):
        check_shardable(make_policy(path, quantization="nf4", lora=LoraSettings()))
    monkeypatch.setattr(quantization, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"bitsandbytes is not installed; `pip install bitsandbytes`"):
        make_policy(path, quantization="nf4", lora=LoraSettings())
