"""The DPO loss: published values and gradients, and what must hold for any input."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from lightning_modules.losses.dpo import dpo_loss
from tests.support.goldens import golden

GOLDEN = golden("vista_dpo")
CASES = [case for case in GOLDEN["cases"] if case["loss_type"] == "sigmoid"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"beta {case['beta']} smoothing {case['label_smoothing']}")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_losses_and_gradients_are_the_published_ones(
    case: dict[str, Any], dtype: torch.dtype, tolerance: float
) -> None:
    inputs = {name: torch.tensor(values, dtype=dtype) for name, values in GOLDEN["inputs"].items()}
    chosen, rejected = inputs["policy_chosen"].requires_grad_(), inputs["policy_rejected"].requires_grad_()
    losses = dpo_loss(
        chosen - inputs["ref_chosen"], rejected - inputs["ref_rejected"], case["beta"], case["label_smoothing"]
    )
    losses.mean().backward()
    for actual, expected in (
        (losses.detach(), case["losses"]),
        (chosen.grad, case["d_mean_loss_d_policy_chosen"]),
        (rejected.grad, case["d_mean_loss_d_policy_rejected"]),
    ):
        torch.testing.assert_close(actual, torch.tensor(expected, dtype=dtype), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_equal_rewards_cost_log_two_in_every_type(dtype: torch.dtype) -> None:
    rewards = torch.tensor([0.0, -3.5, 12.0], dtype=dtype)
    losses = dpo_loss(rewards, rewards, beta=0.1, label_smoothing=0.2)
    assert losses.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert losses.tolist() == pytest.approx([math.log(2)] * 3, abs=1e-6)


def test_large_margins_stay_finite_and_keep_their_gradient() -> None:
    margin = torch.tensor([-1e5, 1e5], requires_grad=True)
    losses = dpo_loss(margin, torch.zeros(2), beta=0.1)
    assert losses.tolist() == [pytest.approx(1e4), 0]
    losses.sum().backward()
    assert margin.grad.tolist() == [pytest.approx(-0.1), 0]


def test_no_samples_give_no_losses() -> None:
    empty = torch.zeros(0, requires_grad=True)
    assert dpo_loss(empty, empty, beta=0.1).sum().requires_grad
