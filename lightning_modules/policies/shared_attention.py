"""Attention over packed views: plainly causal where every row is still prefix, under a mask only behind that.

A dense mask makes a kernel compute every pair of positions. Of a packed sequence nearly all is prefix, whose positions
see what a causal kernel shows them anyway; so the mask is made for the last queries alone, and the number of its rows
says where the causal part ends. Nothing else has to be handed down through the model.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

#: The name under which transformers finds this attention; behind another than sdpa a number follows.
SHARED_PREFIX = "vidpref_shared_prefix"
#: What runs over the prefix -> the name of the attention. Not in the name itself: transformers reads names.
_NAMES = {"sdpa": SHARED_PREFIX}


def use_shared_prefix_attention(language_model: Any) -> None:
    """Let a transformers decoder attend as `shared_prefix_attention` does; generation is as with sdpa.

    Over the prefix, by the implementation that it was built with.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    # Maybe not the one that was asked for: transformers takes a kernel of the hub for a package that is not there.
    built_with = language_model.config._attn_implementation
    name = _NAMES.setdefault(built_with, f"{SHARED_PREFIX}_{len(_NAMES)}")
    attend: Callable[..., Any] = shared_prefix_attention
    if name != SHARED_PREFIX:
        attend = partial(attend, causal=ALL_ATTENTION_FUNCTIONS[built_with])
    AttentionInterface.register(name, attend)
    AttentionMaskInterface.register(name, sdpa_mask)
    language_model.set_attn_implementation(name)


def first_masked(language_model: Any, shared: int) -> int:
    """The first query for which a decoder needs a row of the mask.

    Args:
        language_model: a transformers decoder; one that attends in another way needs them all.
        shared: columns that are prefix in every row.
    """
    return shared if language_model.config._attn_implementation in _NAMES.values() else 0


def shared_prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    causal: Callable[..., tuple[Tensor, Any]] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The first queries causally, the last ones under the mask, as many as it has rows.

    Args:
        module: the attention layer, as transformers hands it over.
        query: (V, heads, Q, D).
        key: (V, key heads, K, D).
        value: likewise.
        attention_mask: (V, 1, R, K), R at most Q, boolean or additive; None = causal throughout.
        causal: transformers' attention over the first queries; None = sdpa.
        kwargs: scaling and the like.

    Returns:
        (V, Q, heads, D), and None in the place of the attention weights.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    first = 0 if attention_mask is None else query.shape[2] - attention_mask.shape[2]
    if first == 0:
        out: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return out
    # Each part says for itself below whether it is causal; said twice it would be an error.
    kwargs.pop("is_causal", None)
    # Positions that begin again, as those of answers do, would be read as several sequences.
    options = {name: value for name, value in kwargs.items() if name != "position_ids"}
    parts = [
        (causal or sdpa_attention_forward)(
            module, query[:, :, :first], key[:, :, :first], value[:, :, :first], None, is_causal=True, **options
        )[0]
    ]
    if first < query.shape[2]:
        parts.append(sdpa_attention_forward(module, query[:, :, first:], key, value, attention_mask, **kwargs)[0])
    return torch.cat(parts, dim=1), None
