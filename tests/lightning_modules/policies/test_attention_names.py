"""Attention by name: what is there is used, what is not is refused with what is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.attention_dispatch import _AttentionBackendRegistry
from torch import nn
from transformers import AttentionInterface, Gemma4Config
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from lightning_modules.policies import attention
from lightning_modules.policies.attention import check_attn_implementation, set_attention_backend
from lightning_modules.policies.hub_model import build_model
from tests.support.family_cases import checkpoint, family_views, loaded, make_policy
from tests.support.tiny_wan import write_tiny_wan
from tests.support.wan_cases import LORA, build_policy, velocity_of


class Counted:
    """An attention of transformers that notes how it is called."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, module: nn.Module, query: Any, key: Any, value: Any, mask: Any, **kwargs: Any) -> Any:
        # The tower's layers attend by it too, not causally.
        if kwargs.get("is_causal"):
            self.calls.append({"mask": mask, "queries": query.shape[2], "keys": key.shape[2], **kwargs})
        return sdpa_attention_forward(module, query, key, value, mask, **kwargs)


@pytest.fixture
def counted() -> Iterator[Counted]:
    own = Counted()
    AttentionInterface.register("counted", own)
    yield own
    del AttentionInterface._global_mapping["counted"]


@pytest.mark.parametrize("kind", ["llava_onevision"])
def test_a_prefix_is_attended_to_by_the_implementation_that_is_named(kind: str, folder: Path, counted: Counted) -> None:
    path, views = checkpoint(kind, folder), family_views(kind)
    plain, named = loaded(path), loaded(path, attn_implementation="counted")
    with torch.no_grad():
        expected = plain.score(plain.encode(views)).log_probs
        assert not counted.calls
        assert torch.equal(named.score(named.encode(views)).log_probs, expected)
    assert len(counted.calls) == named.config.get_text_config().num_hidden_layers
    for call in counted.calls:
        assert call["mask"] is None
        assert call["queries"] == call["keys"] > 0
        assert "position_ids" not in call


def test_names_that_cannot_be_used_are_refused_with_those_that_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "find_spec", lambda name: None)  # as where `kernels` is not installed
    for packed in (True, False):
        for name in ("sdpa", "eager"):
            check_attn_implementation(name, packed)
    check_attn_implementation("flex_attention", packed=False)
    cases = {
        "flash_attention_9": "'flash_attention_9' is not known; here are sdpa, eager",
        "flash_attention_3": "needs its package, or `pip install kernels`; here are sdpa, eager",
        "kernels-community/flash-attn3": "is a kernel of the hub: `pip install kernels`",
        "flex_attention": "policy.layout rows allows it",
        "paged|eager": "is not known",
    }
    for name, message in cases.items():
        with pytest.raises(ValueError, match=message.replace("|", r"\|")):
            check_attn_implementation(name, packed=True)
    # There, transformers takes the package's kernel from the hub.
    monkeypatch.setattr(attention, "find_spec", lambda name: name)
    for name in ("flash_attention_3", "kernels-community/flash-attn3"):
        check_attn_implementation(name, packed=True)


def test_a_policy_is_refused_before_its_weights_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = make_policy(checkpoint("llava_onevision", folder), attn_implementation="flsh")
    monkeypatch.setattr(policy, "build", lambda meta: pytest.fail("weights are read"))
    with pytest.raises(ValueError, match="attn_implementation: 'flsh' is not known; here are sdpa, eager"):
        policy.load()


def test_a_transformer_of_diffusers_attends_by_the_backend_that_is_named(tmp_path: Path) -> None:
    path, before = write_tiny_wan(tmp_path), _AttentionBackendRegistry._active_backend
    plain, named = (build_policy(path, lora=LORA, **settings) for settings in ({}, {"attention": "_native_math"}))
    used = {module.processor._attention_backend for module in named.base.modules() if hasattr(module, "processor")}
    assert {backend.value for backend in used} == {"_native_math"}
    named.load_state_dict(plain.state_dict())
    torch.testing.assert_close(velocity_of(named), velocity_of(plain), rtol=1e-4, atol=1e-5)
    # Of other models of this process it is not the backend.
    assert _AttentionBackendRegistry._active_backend == before
    cases = {
        "nativ": "'nativ' is not known; here are .*native",
        "_flash_3": r"'_flash_3' cannot be used \(.*\); here are .*native",
    }
    for name, message in cases.items():
        with pytest.raises(ValueError, match=message):
            build_policy(path, lora=LORA, attention=name)
    with pytest.raises(ValueError, match="WithoutProcessors attends in its own way"):
        set_attention_backend(WithoutProcessors(), "native")


class WithoutProcessors(nn.Linear):
    """A model whose attention takes no backend."""

    def __init__(self) -> None:
        super().__init__(1, 1)

    def set_attention_backend(self, name: str) -> None:
        """As diffusers' models, which look for processors and have none here."""


def test_a_tower_for_sound_keeps_its_own_attention() -> None:
    """Gemma 4's cannot attend by sdpa, and no video goes through it."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    small = {**sizes, "intermediate_size": 16, "num_key_value_heads": 2, "head_dim": 8}
    text = {**small, "vocab_size": 64, "vocab_size_per_layer_input": 64, "hidden_size_per_layer_input": 8}
    config = Gemma4Config(
        text_config={**text, "layer_types": ["full_attention"]}, vision_config=small,
        audio_config={**sizes, "output_proj_dims": 16, "subsampling_conv_channels": [8, 8]},
    )  # fmt: skip
    model = build_model("-", config, "Gemma4ForConditionalGeneration", "float32", "sdpa", meta=True)
    used = {name: getattr(model.config, f"{name}_config")._attn_implementation for name in ("text", "vision", "audio")}
    assert used == {"text": "sdpa", "vision": "sdpa", "audio": "eager"}
