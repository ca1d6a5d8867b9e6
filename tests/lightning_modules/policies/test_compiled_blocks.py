"""Blocks compiled one by one: the same numbers, the same names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.family_cases import checkpoint, family_views, loaded
from tests.support.tiny_wan import write_tiny_wan
from tests.support.wan_cases import LORA, build_policy, noisy_batch


def wan(folder: Path, **settings: Any) -> tuple[Any, Callable[[Any], Tensor]]:
    path = folder / "wan"
    if not path.exists():
        write_tiny_wan(path)
    return build_policy(path, lora=LORA, **settings), lambda policy: policy(**noisy_batch())


def llava(folder: Path, **settings: Any) -> tuple[Any, Callable[[Any], Tensor]]:
    policy = loaded(checkpoint("video_llava", folder), **settings)
    encoded = policy.encode(family_views("video_llava"))
    return policy, lambda policy: policy(encoded).log_probs


def values(policy: Any, score: Callable[[Any], Tensor]) -> dict[str, Tensor]:
    """Scores of policy and reference, and every gradient."""
    with torch.no_grad(), policy.reference_mode():
        reference = score(policy)
    scores = score(policy)
    scores.square().mean().backward()
    gradients = {name: weight.grad for name, weight in policy.named_parameters() if weight.requires_grad}
    return {"scores": scores.detach(), "reference": reference, **gradients}


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The modules that are compiled; the graphs run as they are, and a part that cannot be traced is an error."""
    modules: list[nn.Module] = []
    compile_module = nn.Module.compile

    def compile_traced(module: nn.Module) -> None:
        modules.append(module)
        compile_module(module, backend="aot_eager", fullgraph=True)

    monkeypatch.setattr(nn.Module, "compile", compile_traced)
    torch.compiler.reset()
    return modules


@pytest.mark.slow
@pytest.mark.parametrize(("policy_of", "recompute"), [(wan, False), (llava, True)])
def test_scores_and_gradients_are_equal_bit_for_bit(
    policy_of: Callable[..., Any], recompute: bool, tmp_path: Path, traced: list[nn.Module]
) -> None:
    settings = {"activation_checkpointing": recompute}
    plain, score = policy_of(tmp_path, **settings)
    assert not traced, "off unless it is asked for"
    compiled, same_score = policy_of(tmp_path, compile="blocks", **settings)
    compiled.load_state_dict(plain.state_dict())
    assert traced == list(compiled.blocks())
    assert dict(compiled.named_parameters()).keys() == dict(plain.named_parameters()).keys()
    expected, ours = values(plain, score), values(compiled, same_score)
    assert ours.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(ours[name], tensor), name
    assert all(block._compiled_call_impl is not None for block in compiled.blocks())
