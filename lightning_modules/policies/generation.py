"""Greedy answers of a video-language model: all prompts in one batch where that is exact, else one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from datamodules.vista.samples import View, blank_view
from lightning_modules.policies.prefixes import PADDING, Prefix, left_padded
from lightning_modules.policies.sharding import is_sharded, most_of_any_rank

if TYPE_CHECKING:
    from lightning_modules.policies.transformers_llm import TransformersVideoLLM

#: How a family is asked. embeddings = all prompts at once, the finished embeddings of each; inputs = all at once, by
#: the model's own inputs; one by one = by the model's own inputs, each prompt alone.
Asking = Literal["embeddings", "inputs", "one by one"]


@torch.no_grad()
def greedy_answers(
    policy: TransformersVideoLLM, views: Sequence[View], max_new_tokens: int, answer_start: str
) -> list[str]:
    """A policy's greedy answers to views' prompts, in their order.

    Args:
        policy: with its weights.
        views: what is asked.
        max_new_tokens: the longest answer.
        answer_start: what every answer begins with; it is not part of what comes back.

    Raises:
        ValueError: a view that the family cannot be shown, or a prompt longer than the checkpoint has positions.
    """
    assert policy.model is not None, "load() comes first"
    # Sharded weights are gathered by all ranks together, so that every rank asks as often, if need be for nobody.
    most = most_of_any_rank(len(views), policy.device) if is_sharded(policy) else len(views)
    spare = list(views[:1]) or [blank_view(0, getattr(policy, "num_frames", None) or 2, {})]
    calls = most if policy.asking == "one by one" else min(most, 1)
    asked = [*views, *spare * max(calls - len(views), 0)]
    prefixes = []
    for view in asked:
        where = f"prompt {view.sample}"
        prefix = policy.prefix(view, where, policy.start_ids(answer_start, where))
        policy.check_length(len(prefix.ids), where)
        prefixes.append(prefix)
    training = policy.training
    policy.eval()  # activation checkpointing would switch the cache off
    try:
        if policy.asking == "one by one":
            rows = [row for prefix in prefixes for row in _from_inputs(policy, [prefix], max_new_tokens)]
        elif not prefixes:
            rows = []
        else:
            answer = _from_embeddings if policy.asking == "embeddings" else _from_inputs
            rows = answer(policy, prefixes, max_new_tokens)
    finally:
        policy.train(training)
    tokenizer = policy.processor.tokenizer
    return [tokenizer.decode(row, skip_special_tokens=True).strip() for row in rows[: len(views)]]


def _from_embeddings(policy: TransformersVideoLLM, prefixes: Sequence[Prefix], max_new_tokens: int) -> list[list[int]]:
    """New ids from finished embeddings, which hold all where positions are plain and features enter at the start."""
    packed = policy.pack(prefixes, [[] for _ in prefixes], "packed").sent(policy.device)
    # Generation appends at the right, so that padding moves to the left.
    embeds, mask = left_padded(policy.embed(packed, policy.see(prefixes)), packed.segments != PADDING)
    ids = policy.base.generate(
        inputs_embeds=embeds,
        attention_mask=mask.long(),
        # Go on until every rank has finished.
        synced_gpus=is_sharded(policy),
        **policy.greedy(max_new_tokens),
    )
    return ids.tolist()  # type: ignore[no-any-return]


def _from_inputs(policy: TransformersVideoLLM, prefixes: Sequence[Prefix], max_new_tokens: int) -> list[list[int]]:
    """New ids by the model's own `generate` on its own inputs.

    Finished embeddings would lose positions of several rows and features that enter deeper layers, and give other
    answers without an error.
    """
    length = max(len(prefix.ids) for prefix in prefixes)
    padding = policy.processor.tokenizer.eos_token_id
    rows = [[padding] * (length - len(prefix.ids)) + prefix.ids for prefix in prefixes]
    mask = [[0] * (length - len(prefix.ids)) + [1] * len(prefix.ids) for prefix in prefixes]
    inputs: dict[str, Tensor] = {}
    for name in prefixes[0].inputs:
        values = [prefix.inputs[name] for prefix in prefixes]
        if name == "mm_token_type_ids":  # of tokens, as the ids are; padding is text
            values = [torch.nn.functional.pad(value, (length - value.shape[1], 0)) for value in values]
        inputs[name] = torch.cat(values).to(policy.device)
    written = policy.base.generate(
        input_ids=torch.tensor(rows, device=policy.device),
        attention_mask=torch.tensor(mask, device=policy.device),
        synced_gpus=is_sharded(policy),
        **inputs,
        **policy.greedy(max_new_tokens),
    )
    return written[:, length:].tolist()  # type: ignore[no-any-return]
