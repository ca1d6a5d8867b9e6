"""What VistaDPO (arXiv 2504.13122) adds to DPO at the level of answers and of tokens.

The video, clip and object terms are `dpo.dpo_loss` with the chosen answer on both sides and two videos.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lightning_modules.losses.dpo import dpo_loss
from lightning_modules.losses.log_probs import at_least_float32


def response_loss(
    chosen_B: Tensor,
    rejected_B: Tensor,
    irrelevant_B: Tensor,
    beta: float,
    rejected_weight: float | Tensor = 0.7,
    irrelevant_weight: float | Tensor = 0.3,
) -> Tensor:
    """The response term L_r: the chosen answer against the rejected and the irrelevant one, in one sigmoid.

    -log sigmoid(beta (r_w - b_re r_re - b_ir r_ir)), with rewards r = log p_policy - log p_reference in nats. Policy
    and reference have the same weights, so the loss is log 2 when policy = reference.

    Args:
        chosen_B: (B,) r_w.
        rejected_B: (B,) r_re, of the answer that is relevant but wrong.
        irrelevant_B: (B,) r_ir; finite, also where its weight is 0.
        beta: the paper's 0.1.
        rejected_weight: b_re, 0.7 in the authors' code, or one per sample (B,).
        irrelevant_weight: b_ir, 0.3, or one per sample. A sample without an irrelevant answer takes 1 and 0, which
            is plain DPO.

    Returns:
        (B,) float32 or float64, not yet reduced.
    """
    # Weighted before the sigmoid: two terms with a sigmoid each would have other gradients and no common margin.
    wrong_B = rejected_weight * at_least_float32(rejected_B) + irrelevant_weight * at_least_float32(irrelevant_B)
    return dpo_loss(chosen_B, wrong_B, beta)


def token_loss(
    chosen_rewards_B: Tensor,
    rejected_rewards_B: Tensor,
    chosen_kl_B: Tensor,
    rejected_kl_B: Tensor,
    beta: float,
    alpha: float = 0.5,
) -> Tensor:
    """The token term L_t: TDPO2 (arXiv 2404.11999) on the chosen and the rejected answer.

    -log sigmoid(beta ((r_w - r_l) - alpha (k_l - sg(k_w)))), with k = `sequential_kl`. Without a gradient through k_w
    the term pulls the rejected answer's divergence down and leaves the chosen one's alone.

    Args:
        chosen_rewards_B: (B,) r_w.
        rejected_rewards_B: (B,) r_l.
        chosen_kl_B: (B,) k_w; receives no gradient.
        rejected_kl_B: (B,) k_l.
        beta: the paper's 0.1.
        alpha: weight of the divergences, 0.5 in TDPO and in VistaDPO.

    Returns:
        (B,) float32 or float64, not yet reduced.
    """
    margin = at_least_float32(chosen_rewards_B) - at_least_float32(rejected_rewards_B)
    divergence = at_least_float32(rejected_kl_B) - at_least_float32(chosen_kl_B).detach()
    # The divergences are in nats, as the rewards are: one beta scales both.
    return -F.logsigmoid(beta * (margin - alpha * divergence))
