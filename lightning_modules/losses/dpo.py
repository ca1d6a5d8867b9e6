"""Direct preference optimization (arXiv 2305.18290) on finished log-probabilities."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lightning_modules.losses.log_probs import at_least_float32


def dpo_loss(chosen_rewards_B: Tensor, rejected_rewards_B: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """DPO's loss per pair, -log sigmoid(beta (r_w - r_l)), equation 7 of the paper; log 2 when policy = reference.

    A reward is r = log p_policy - log p_reference of the whole answer in nats, a sum over tokens. The same function
    serves VistaDPO's video, clip and object terms: there both rewards are of the chosen answer, under two videos.

    Args:
        chosen_rewards_B: (B,) r_w.
        rejected_rewards_B: (B,) r_l.
        beta: strength of the pull towards the reference; 0.1 in VistaDPO.
        label_smoothing: the share of labels believed to be flipped (conservative DPO), from 0 to below 0.5.

    Returns:
        (B,) float32 or float64, not yet reduced.
    """
    logits = beta * (at_least_float32(chosen_rewards_B) - at_least_float32(rejected_rewards_B))
    # logsigmoid and not log(sigmoid): far on the wrong side sigmoid rounds to 0, and the loss would be infinite.
    return -(1 - label_smoothing) * F.logsigmoid(logits) - label_smoothing * F.logsigmoid(-logits)
