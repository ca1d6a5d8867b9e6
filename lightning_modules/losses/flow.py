"""Preference losses for rectified-flow video models: Flow-DPO, and DenseDPO (arXiv 2506.03517) with a label per frame.

One convention: x_t = (1 - t) x + t noise, so t = 1 is noise, and the model predicts the velocity noise - x. Both videos
of a pair see the same time and the same noise. Preferences are +1 where the pair's first video is better, -1 where its
second one is, and 0 for a tie; ties drop out of the loss and get a gradient of exactly 0.

Errors are means over channels and pixels (the paper's equations print sums, its code takes means), and stay in float32
at least: beta 500 turns an error of 1e-3 in bfloat16 into one quarter of a logit.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.losses.log_probs import at_least_float32

#: per_frame: one sigmoid for each latent frame, the paper's appendix E. per_video: one for each video, its equation 7.
DenseForm = Literal["per_frame", "per_video"]
#: mean: one scalar, the sum over its denominator. none: the values that the sum is of.
Reduction = Literal["mean", "none"]


def interpolate(clean: Tensor, noise: Tensor, t_B: Tensor) -> Tensor:
    """The noisy video x_t = (1 - t) clean + t noise, equation 1 of the paper.

    Args:
        clean: (B, ...) latents x.
        noise: like clean, standard normal.
        t_B: (B,) times in [0, 1], 1 being noise.

    Returns:
        Like clean, in its type; rounded once.
    """
    # bfloat16 has two or three digits: near t = 1 hardly any of 1 - t would be left.
    t = at_least_float32(t_B).reshape(-1, *[1] * (clean.ndim - 1))
    return ((1 - t) * at_least_float32(clean) + t * at_least_float32(noise)).to(clean.dtype)


def velocity_target(clean: Tensor, noise: Tensor) -> Tensor:
    """The velocity that the model must predict, noise - clean: like clean, in its type."""
    return (at_least_float32(noise) - at_least_float32(clean)).to(clean.dtype)


def frame_errors(prediction_BCFHW: Tensor, target_BCFHW: Tensor) -> Tensor:
    """Mean squared error of each latent frame.

    Args:
        prediction_BCFHW: (B, C, F, H, W) predicted velocity.
        target_BCFHW: (B, C, F, H, W) `velocity_target`.

    Returns:
        (B, F) float32 or float64, the mean over C, H and W.
    """
    difference = at_least_float32(prediction_BCFHW) - at_least_float32(target_BCFHW)
    return difference.square().mean(dim=(1, 3, 4))


def flow_logits(
    policy_first_BF: Tensor,
    policy_second_BF: Tensor,
    reference_first_BF: Tensor,
    reference_second_BF: Tensor,
    preference_B: Tensor,
    beta: float | Tensor,
) -> Tensor:
    """The (B,) logits of `flow_dpo_loss`; above 0 where the policy agrees with the label, 0 for a tie."""
    gap_BF = _error_gap(policy_first_BF, policy_second_BF, reference_first_BF, reference_second_BF)
    return -0.5 * beta * _signed(preference_B, gap_BF.mean(-1))


def flow_dpo_loss(
    policy_first_BF: Tensor,
    policy_second_BF: Tensor,
    reference_first_BF: Tensor,
    reference_second_BF: Tensor,
    preference_B: Tensor,
    beta: float | Tensor,
    denominator: float | Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Flow-DPO: one preference per pair, equation 5 of the paper as its appendix E writes it; log 2 at the start.

    -log sigmoid(-beta / 2 * l * (s_first - s_second)), where a video's s is its error under the policy minus that
    under the reference, averaged over latent frames; lower is better.

    Args:
        policy_first_BF: (B, F) `frame_errors` of the policy on the pairs' first videos.
        policy_second_BF: (B, F) on their second videos.
        reference_first_BF: (B, F) of the reference on the first videos; no gradient is stopped here.
        reference_second_BF: (B, F) on the second videos.
        preference_B: (B,) in {+1, 0, -1}, any type.
        beta: the paper's 500; or one per pair (B,), as in Flow-DPO's variant beta (1 - t)^2.
        denominator: what the sum over non-ties is divided by; None = the number of non-ties in the arguments.
        reduction: "mean" divides the sum; "none" gives every pair's loss, which a training step weighs.

    Returns:
        A scalar in float32 or float64, or with "none" (B,), exactly 0 at a tie. Ties alone give exactly 0, with a
        graph.
    """
    errors = (policy_first_BF, policy_second_BF, reference_first_BF, reference_second_BF)
    return _reduced(flow_logits(*errors, preference_B, beta), preference_B != 0, denominator, reduction)


def dense_logits(
    policy_first_BF: Tensor,
    policy_second_BF: Tensor,
    reference_first_BF: Tensor,
    reference_second_BF: Tensor,
    preference_BF: Tensor,
    beta: float,
    form: DenseForm = "per_frame",
    segments_BF: Tensor | None = None,
) -> Tensor:
    """The logits of `dense_dpo_loss`: (B, F) or, per video, (B,); 0 where nothing is preferred."""
    gap_BF = _error_gap(policy_first_BF, policy_second_BF, reference_first_BF, reference_second_BF)
    return _dense_logits(_signed(preference_BF, gap_BF), beta, form, segments_BF)


def dense_dpo_loss(
    policy_first_BF: Tensor,
    policy_second_BF: Tensor,
    reference_first_BF: Tensor,
    reference_second_BF: Tensor,
    preference_BF: Tensor,
    beta: float,
    form: DenseForm = "per_frame",
    segments_BF: Tensor | None = None,
    denominator: float | Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """DenseDPO: a preference for every latent frame, which is that of its segment; log 2 when policy = reference.

    The paper has two forms that differ by far more than a factor. per_frame is its appendix E and what its text
    describes: -log sigmoid(-beta / 2 * l_f * (s_first,f - s_second,f)) for each frame without a tie, so a segment
    weighs in proportion to its latent frames. per_video is its equation 7: errors averaged within each segment, and
    one -log sigmoid(-beta * sum over segments of l (s_first - s_second)) for each pair, without the one-half.

    Args:
        policy_first_BF: (B, F) `frame_errors` of the policy on the pairs' first videos.
        policy_second_BF: (B, F) on their second videos.
        reference_first_BF: (B, F) of the reference on the first videos; no gradient is stopped here.
        reference_second_BF: (B, F) on the second videos.
        preference_BF: (B, F) in {+1, 0, -1}, any type; equal for the frames of a segment.
        beta: the paper's 500.
        form: per_frame or per_video.
        segments_BF: (B, F) or (F,) the segment of each latent frame, any integers; per_video needs it.
        denominator: what the sum over non-ties is divided by: non-tie frames, or per video pairs with such a frame.
            None = how many there are in the arguments.
        reduction: "mean" divides the sum; "none" gives the loss of every sigmoid, which a training step weighs.

    Returns:
        A scalar in float32 or float64, or with "none" (B, F), per video (B,), exactly 0 at a tie. Ties alone give
        exactly 0, with a graph.

    Raises:
        ValueError: another form, or per_video without segments.
    """
    errors = (policy_first_BF, policy_second_BF, reference_first_BF, reference_second_BF)
    logits = dense_logits(*errors, preference_BF, beta, form, segments_BF)
    decided_BF = preference_BF != 0
    return _reduced(logits, decided_BF if form == "per_frame" else decided_BF.any(-1), denominator, reduction)


def flow_rewards(policy_BF: Tensor, reference_BF: Tensor, beta: float | Tensor) -> Tensor:
    """The (B,) implicit reward of one video, -beta / 2 * s: `flow_logits` are the winner's minus the loser's.

    Args:
        policy_BF: (B, F) `frame_errors` of the policy.
        reference_BF: (B, F) of the reference.
        beta: as in `flow_dpo_loss`.
    """
    return -0.5 * beta * (at_least_float32(policy_BF) - at_least_float32(reference_BF)).mean(-1)


def dense_rewards(
    policy_BF: Tensor,
    reference_BF: Tensor,
    decided_BF: Tensor,
    beta: float,
    form: DenseForm = "per_frame",
    segments_BF: Tensor | None = None,
) -> Tensor:
    """The implicit rewards of one video's frames: `dense_logits` are the winners' minus the losers', frame by frame.

    Args:
        policy_BF: (B, F) `frame_errors` of the policy.
        reference_BF: (B, F) of the reference.
        decided_BF: (B, F) bool, where there is a preference; elsewhere a frame brings in 0.
        beta: as in `dense_dpo_loss`.
        form: as in `dense_dpo_loss`.
        segments_BF: as in `dense_dpo_loss`.

    Returns:
        (B, F) or, per video, (B,).
    """
    gap_BF = at_least_float32(policy_BF) - at_least_float32(reference_BF)
    return _dense_logits(torch.where(decided_BF, gap_BF, 0.0), beta, form, segments_BF)


def _error_gap(*errors: Tensor) -> Tensor:
    """(B, F) s_first - s_second, from the four errors in the order of the losses' arguments."""
    policy_first, policy_second, reference_first, reference_second = map(at_least_float32, errors)
    # Policy minus reference first: they are close, so that this difference is exact and the pair's keeps its digits.
    return (policy_first - reference_first) - (policy_second - reference_second)


def _signed(preference: Tensor, gap: Tensor) -> Tensor:
    """The gaps with the sign of their label; at a tie 0, so that a broken error has no value and no gradient there."""
    return torch.where(preference != 0, preference.to(gap.dtype) * gap, 0.0)


def _dense_logits(signed_BF: Tensor, beta: float, form: DenseForm, segments_BF: Tensor | None) -> Tensor:
    """Scaled by beta, per frame (B, F) or summed over the segments' means (B,)."""
    if form == "per_frame":
        return -0.5 * beta * signed_BF
    if form != "per_video" or segments_BF is None:
        raise ValueError(f"form {form!r} must be per_frame, or per_video with segments_BF to average errors within")
    # Averaging within a segment and summing over segments is a sum in which a frame weighs 1 / its segment.
    frames_BF = (segments_BF.unsqueeze(-1) == segments_BF.unsqueeze(-2)).sum(-1)
    return -beta * (signed_BF / frames_BF).sum(-1)


def _reduced(logits: Tensor, decided: Tensor, denominator: float | Tensor | None, reduction: Reduction) -> Tensor:
    """-log sigmoid of the logits, 0 where nothing is decided; or its sum over the denominator."""
    # Masked, not selected: the host would have to wait for a selection's size.
    values = torch.where(decided, -F.logsigmoid(logits), 0.0)
    if reduction == "none" and denominator is None:
        return values
    if reduction != "mean":
        raise ValueError(f"reduction {reduction!r} must be mean, or none without a denominator: none divides nothing")
    total = values.sum()
    divisor = torch.as_tensor(
        decided.sum() if denominator is None else denominator, dtype=total.dtype, device=total.device
    )
    # Only ties: the sum is 0, and 0 / 0 would be NaN.
    return total / torch.where(divisor > 0, divisor, 1.0)
