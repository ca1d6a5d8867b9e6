"""Adapters multiplied in bfloat16: their weights, gradients and files stay float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lightning_modules.policies.wan import WanPolicy
from tests.support.family_cases import checkpoint, family_views, loaded, make_policy
from tests.support.tiny_wan import write_tiny_wan
from tests.support.wan_cases import LORA, build_policy, noisy_batch, velocity_of


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_wan(tmp_path_factory.mktemp("wan"))


def pair(path: Path, **settings: Any) -> tuple[WanPolicy, WanPolicy]:
    """Equal policies on 16-bit weights, the second with adapters in 16 bits."""
    settings = {"lora": LORA, "dtype": "bfloat16", **settings}
    plain, half = build_policy(path, **settings), build_policy(path, adapter_compute="bfloat16", **settings)
    half.load_state_dict(plain.state_dict())
    return plain, half


def branches(policy: nn.Module) -> list[tuple[torch.dtype, torch.dtype]]:
    """Types of the adapters' inputs and outputs in one forward; they hook every adapter's linears."""
    types: list[tuple[torch.dtype, torch.dtype]] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        types.append((inputs[0].dtype, output.dtype))

    named = [module for name, module in policy.named_modules() if name.endswith((".lora_A.default", ".lora_B.default"))]
    handles = [module.register_forward_hook(note) for module in named]
    velocity_of(policy)  # type: ignore[arg-type]
    for handle in handles:
        handle.remove()
    assert len(types) == len(named) > 0
    return types


def trained(policy: nn.Module) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in policy.named_parameters() if weight.requires_grad}


def test_the_branch_is_in_16_bits_and_its_weights_are_not(path: Path) -> None:
    plain, half = pair(path)
    assert set(branches(plain)) == {(torch.float32, torch.float32)}
    assert {output for _, output in branches(half)} == {torch.bfloat16}
    # The layer's own input goes in; a float32 copy of it would be the largest tensor of the layer.
    assert torch.float32 not in {taken for taken, _ in branches(half)}
    assert trained(half).keys() == trained(plain).keys()
    assert {weight.dtype for weight in trained(half).values()} == {torch.float32}


def test_velocities_and_gradients_are_near_those_of_float32(path: Path) -> None:
    plain, half = pair(path)
    ours, theirs, base = velocity_of(half), velocity_of(plain), velocity_of(plain, reference=True)
    assert 0 < (ours - theirs).norm() < 0.1 * (theirs - base).norm()
    # Without its adapters it is the same model.
    assert torch.equal(velocity_of(half, reference=True), base)
    gradients = []
    for policy in (plain, half):
        policy(**noisy_batch()).square().mean().backward()
        gradients.append({name: weight.grad for name, weight in trained(policy).items()})
    for name, gradient in gradients[0].items():
        other = gradients[1][name]
        assert gradient is not None
        assert other is not None
        assert other.dtype == torch.float32
        assert (other - gradient).norm() < 0.1 * gradient.norm() + 1e-6, name


def test_an_export_is_float32_and_loads_without_the_setting(path: Path, tmp_path: Path) -> None:
    plain, half = pair(path)
    for policy, name in ((plain, "plain"), (half, "half")):
        policy.export(tmp_path / name)
    files = [load_file(tmp_path / name / "pytorch_lora_weights.safetensors") for name in ("plain", "half")]
    assert files[0].keys() == files[1].keys()
    assert {tensor.dtype for tensor in files[1].values()} == {torch.float32}
    assert all(torch.equal(tensor, files[1][name]) for name, tensor in files[0].items())
    again = build_policy(path, nudged=False, adapter=str(tmp_path / "half"), dtype="bfloat16")
    assert torch.equal(velocity_of(again), velocity_of(plain))


def test_a_trained_adapter_and_its_frozen_copy_compute_alike(path: Path, tmp_path: Path) -> None:
    pair(path)[1].export(tmp_path)
    policy = build_policy(path, nudged=False, adapter=str(tmp_path), dtype="bfloat16", adapter_compute="bfloat16")
    assert torch.equal(velocity_of(policy), velocity_of(policy, reference=True))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["video_llava", "qwen2_5_vl"])
def test_video_language_models_compute_adapters_in_16_bits_too(kind: str, folder: Path) -> None:
    path, views = checkpoint(kind, folder), family_views(kind)
    plain, half = loaded(path), loaded(path, adapter_compute="bfloat16")
    with torch.no_grad():
        theirs, ours = (policy.score(policy.encode(views)).log_probs for policy in (plain, half))
        with plain.reference_mode():
            base = plain.score(plain.encode(views)).log_probs
    assert 0 < (ours - theirs).norm() < 0.1 * (theirs - base).norm()
    assert {weight.dtype for weight in trained(half).values()} == {torch.float32}
    half.score(half.encode(views)).log_probs.sum().backward()
    assert {weight.grad.dtype for weight in trained(half).values() if weight.grad is not None} == {torch.float32}


def test_without_an_adapter_the_setting_is_refused_and_unused_it_is_in_no_record(path: Path, folder: Path) -> None:
    with pytest.raises(ValueError, match="adapter_compute is bfloat16, but there is no adapter"):
        WanPolicy(str(path), adapter_compute="bfloat16")
    with pytest.raises(ValueError, match="adapter_compute is bfloat16, but there is no adapter"):
        make_policy(checkpoint("llava_onevision", folder), adapter_compute="bfloat16")
    names = {"adapter_compute", "attention", "compiled"}
    assert names.isdisjoint(vars(WanPolicy(str(path))))
    assert names.isdisjoint(vars(make_policy(checkpoint("llava_onevision", folder))))
