"""Log-probability of answers, and its divergence from the reference: sums over answer tokens, in nats.

Each quantity has two forms of equal value and gradient. The plain one takes full logits and is the oracle. The
chunked one is what a step runs: it takes last hidden states at answer positions only, applies the output head to
`chunk_size` of them at a time, and applies it again in backward, so that the N x V logits never exist at once.

Sums run in float32 at least, whatever the logits are: with a vocabulary of 32,000 a bfloat16 log-softmax is off by
more than a training step moves the margin, and two identical models would differ.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

#: Label of a position that is not part of the answer.
IGNORED = -100

#: Hidden states (n, D) -> logits (n, V). Called again in backward, so it must give the same logits both times.
Head = Callable[[Tensor], Tensor]


def at_least_float32(values: Tensor) -> Tensor:
    """The values in float32, or in float64 where they already are."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def response_log_probs(logits_BTV: Tensor, labels_BT: Tensor) -> Tensor:
    """Log-probability of each sequence's answer: the sum over its tokens, never their mean. The plain form.

    Args:
        logits_BTV: (B, T, V); the logits at position t predict the token at t + 1.
        labels_BT: (B, T) int64 token ids, -100 where the token is not part of the answer. They must be the labels
            of the merged sequence, in which the video's tokens stand in place of their one placeholder.

    Returns:
        (B,) float32 or float64 log p(y | v, x) in nats; 0 for a sequence without an answer.
    """
    rows_N, logits_NV, targets_N = _answer_positions(logits_BTV, labels_BT)
    return _sum_per_answer(_token_log_probs(logits_NV, targets_N), rows_N, len(labels_BT))


def sequential_kl(reference_logits_BTV: Tensor, policy_logits_BTV: Tensor, labels_BT: Tensor) -> Tensor:
    """Sequential KL divergence of TDPO (arXiv 2404.11999): sum over answer tokens of KL(reference || policy).

    It is the forward divergence, over the whole vocabulary. The plain form.

    Args:
        reference_logits_BTV: (B, T, V) of the reference.
        policy_logits_BTV: (B, T, V) of the policy.
        labels_BT: (B, T) int64, -100 where the token is not part of the answer; shifted inside, as in
            `response_log_probs`.

    Returns:
        (B,) float32 or float64, nats, at least 0 up to rounding. Where the reference gives a token no probability, or
        one too small for the type, that token of the vocabulary adds 0.
    """
    rows_N, reference_NV, _ = _answer_positions(reference_logits_BTV, labels_BT)
    _, policy_NV, _ = _answer_positions(policy_logits_BTV, labels_BT)
    return _sum_per_answer(_token_kl(reference_NV, policy_NV), rows_N, len(labels_BT))


def answer_log_probs(
    hidden_ND: Tensor, head: Head, targets_N: Tensor, answer_N: Tensor, num_answers: int, chunk_size: int = 256
) -> Tensor:
    """`response_log_probs` from hidden states at answer positions, with the head applied in chunks.

    Args:
        hidden_ND: (N, D) last hidden states, each at the position that predicts its target.
        head: (n, D) -> (n, V) logits.
        targets_N: (N,) int64 token ids.
        answer_N: (N,) int64, the answer to which each position belongs, 0 to num_answers - 1, in any order.
        num_answers: A.
        chunk_size: positions whose logits exist at the same time; any value gives the same result.

    Returns:
        (A,) float32 or float64, nats. An answer without positions is 0, and still has a graph.
    """

    def chunk_log_probs(hidden_nD: Tensor, targets_n: Tensor) -> Tensor:
        return _token_log_probs(head(hidden_nD), targets_n)

    return _sum_per_answer(_in_chunks(chunk_log_probs, hidden_ND, targets_N, chunk_size), answer_N, num_answers)


def answer_kl(
    reference_hidden_ND: Tensor,
    policy_hidden_ND: Tensor,
    reference_head: Head,
    policy_head: Head,
    answer_N: Tensor,
    num_answers: int,
    chunk_size: int = 256,
) -> Tensor:
    """`sequential_kl` from hidden states at answer positions, with both heads applied in chunks.

    No gradient enters the reference, also where both share an output head that trains.

    Args:
        reference_hidden_ND: (N, D) last hidden states of the reference.
        policy_hidden_ND: (N, D) of the policy, at the same positions.
        reference_head: (n, D) -> (n, V) logits of the reference.
        policy_head: (n, D) -> (n, V) logits of the policy.
        answer_N: (N,) int64, the answer to which each position belongs.
        num_answers: A.
        chunk_size: positions whose logits exist at the same time; any value gives the same result.

    Returns:
        (A,) float32 or float64, nats. An answer without positions is 0, and still has a graph.
    """

    def chunk_kl(policy_nD: Tensor, reference_nD: Tensor) -> Tensor:
        with torch.no_grad():
            reference_nV = reference_head(reference_nD)
        return _token_kl(reference_nV, policy_head(policy_nD))

    values_N = _in_chunks(chunk_kl, policy_hidden_ND, reference_hidden_ND, chunk_size)
    return _sum_per_answer(values_N, answer_N, num_answers)


def _answer_positions(logits_BTV: Tensor, labels_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The batch row (N,), logits (N, V) and target (N,) of every answer token."""
    # The logits at position t predict the token at t + 1.
    targets = labels_BT[:, 1:]
    rows_N, steps_N = (targets != IGNORED).nonzero(as_tuple=True)
    return rows_N, logits_BTV[rows_N, steps_N], targets[rows_N, steps_N]


def _token_log_probs(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """(N,) log p(target)."""
    return -F.cross_entropy(at_least_float32(logits_NV), targets_N, reduction="none")


def _token_kl(reference_NV: Tensor, policy_NV: Tensor) -> Tensor:
    """(N,) KL(reference || policy)."""
    log_reference = F.log_softmax(at_least_float32(reference_NV), dim=-1)
    log_policy = F.log_softmax(at_least_float32(policy_NV), dim=-1)
    probability = log_reference.exp()
    # 0 log 0 is 0, but -inf - -inf is NaN, and 0 times it too: the difference is taken out before the product, so that
    # neither value nor gradient meets it.
    difference = torch.where(probability > 0, log_reference - log_policy, 0.0)
    return (probability * difference).sum(-1)


def _in_chunks(compute: Callable[[Tensor, Tensor], Tensor], first: Tensor, second: Tensor, chunk_size: int) -> Tensor:
    """`compute` over chunks of rows, each recomputed in backward; no rows are one empty chunk, which has a graph."""
    chunks = zip(torch.split(first, chunk_size), torch.split(second, chunk_size), strict=True)
    # Heads are deterministic (dropout is off), so no generator state is carried to the second pass.
    return torch.cat([checkpoint(compute, *chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks])


def _sum_per_answer(values_N: Tensor, answer_N: Tensor, num_answers: int) -> Tensor:
    """(A,) sums of the values that belong to each answer."""
    # Added to zeros, so that an answer without tokens is 0 and the sum has a graph even then.
    return values_N.new_zeros(num_answers).index_add(0, answer_N, values_N)
