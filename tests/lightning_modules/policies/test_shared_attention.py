"""Attention that is causal over the shared prefix: equal to the same attention under the whole mask."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from lightning_modules.policies.prefixes import pack_views, shared_prefix_mask
from lightning_modules.policies.shared_attention import shared_prefix_attention


def inputs(length: int, rows: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value with gradients."""
    query, key, value = (torch.randn(rows, 4, length, 8, requires_grad=True) for _ in range(3))
    return query, key, value


@pytest.mark.parametrize(
    "answers",
    [[[[7, 8, 9], [6, 5]], [[4, 3, 2, 1]]], [[[7], [8, 9]], [[4]]], [[[7]], [[4]]]],
    ids=["several", "one token each in a row", "nothing behind the prefix"],
)
def test_equals_attention_under_the_whole_mask(answers: list[list[list[int]]]) -> None:
    packed = pack_views([[1, 2, 3, 4], [5, 6, 7, 8, 9, 10]], answers, padding_id=0)
    tensors = inputs(packed.ids.shape[1])
    whole = scaled_dot_product_attention(*tensors, attn_mask=shared_prefix_mask(packed.segments)).transpose(1, 2)
    mask = shared_prefix_mask(packed.segments, packed.shared)
    assert mask.shape[2] == packed.ids.shape[1] - 4
    ours, weights = shared_prefix_attention(nn.Module(), *tensors, mask)
    assert weights is None
    torch.testing.assert_close(ours, whole)
    seen = torch.randn_like(whole)
    expected = torch.autograd.grad((whole * seen).sum(), tensors)
    grads = torch.autograd.grad((ours * seen).sum(), tensors)
    torch.testing.assert_close(grads, expected)


def test_without_a_mask_it_is_causal() -> None:
    tensors = inputs(6)
    module = nn.Module()
    module.is_causal = True  # type: ignore[assignment]
    ours, _ = shared_prefix_attention(module, *tensors, None)
    torch.testing.assert_close(ours, scaled_dot_product_attention(*tensors, is_causal=True).transpose(1, 2))


def test_a_dense_mask_is_obeyed_from_the_first_query_on() -> None:
    tensors = inputs(5)
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool)
    ours, _ = shared_prefix_attention(nn.Module(), *tensors, mask)
    torch.testing.assert_close(ours, scaled_dot_product_attention(*tensors).transpose(1, 2))
