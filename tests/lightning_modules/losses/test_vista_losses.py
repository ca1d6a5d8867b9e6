"""VistaDPO's response and token terms: published values and gradients, signs, stops, and the total at the start."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_modules.losses.dpo import dpo_loss
from lightning_modules.losses.log_probs import response_log_probs, sequential_kl
from lightning_modules.losses.vista import response_loss, token_loss
from tests.support.goldens import golden

RESPONSE = golden("vista_response")
BATCH = golden("vista_batch_logps")
TOKEN = golden("vista_tdpo")
PRECISIONS = [(torch.float64, 1e-10), (torch.float32, 1e-5)]
ANSWERS = ("chosen", "rejected_relevant", "rejected_irrelevant")


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def close(actual: Tensor, expected: Any, tolerance: float) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=actual.dtype), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_response_loss_weights_policy_and_reference_alike(dtype: torch.dtype, tolerance: float) -> None:
    inputs = {name: torch.tensor(values, dtype=dtype) for name, values in RESPONSE["inputs"].items()}
    policy = [inputs[f"policy_{name}"].requires_grad_() for name in ANSWERS]
    rewards = [log_prob - inputs[f"ref_{name}"] for log_prob, name in zip(policy, ANSWERS, strict=True)]
    losses = response_loss(*rewards, beta=0.1)
    expected = RESPONSE["outputs"]["consistent"]
    close(losses.detach(), expected["losses"], tolerance)
    losses.mean().backward()
    for log_prob, name in zip(policy, ("chosen", "rejected", "irrelevant"), strict=True):
        close(log_prob.grad, expected[f"grad_policy_{name}"], tolerance)


def test_a_sample_without_an_irrelevant_answer_is_plain_dpo() -> None:
    chosen, rejected, irrelevant = torch.tensor([[1.0, 2.0], [0.5, -1.0], [0.0, 4.0]], dtype=torch.float64)
    losses = response_loss(
        chosen, rejected, irrelevant, 0.1, *torch.tensor([[1.0, 0.7], [0.0, 0.3]], dtype=torch.float64)
    )
    close(losses[:1], dpo_loss(chosen[:1], rejected[:1], 0.1).tolist(), 1e-15)
    close(losses[1:], response_loss(chosen[1:], rejected[1:], irrelevant[1:], 0.1).tolist(), 1e-15)


def test_equal_weights_make_the_rejected_answers_exchangeable() -> None:
    chosen, rejected, irrelevant = torch.randn(3, 6)
    first = response_loss(chosen, rejected, irrelevant, 0.1, 0.5, 0.5)
    assert torch.equal(first, response_loss(chosen, irrelevant, rejected, 0.1, 0.5, 0.5))


@pytest.mark.parametrize("case", TOKEN["cases"], ids=lambda c: f"{c['variant']} beta {c['beta']} alpha {c['alpha']}")
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_token_loss_is_the_published_tdpo2(case: dict[str, Any], dtype: torch.dtype, tolerance: float) -> None:
    if case["variant"] == "TDPO1":  # its value has both divergences at full weight, whatever alpha is
        case = {**case, "alpha": 1.0, "grad_policy_logits": None}
    inputs = BATCH["inputs"]
    policy = torch.tensor(inputs["policy_logits"], dtype=dtype, requires_grad=True)
    reference, labels = torch.tensor(inputs["ref_logits"], dtype=dtype), torch.tensor(inputs["labels"])
    rewards = response_log_probs(policy, labels) - response_log_probs(reference, labels)
    kl = sequential_kl(reference, policy, labels)
    losses = token_loss(rewards[:2], rewards[2:], kl[:2], kl[2:], case["beta"], case["alpha"])
    close(losses.detach(), case["losses"], tolerance)
    if case["grad_policy_logits"] is not None:
        losses.mean().backward()
        close(policy.grad, case["grad_policy_logits"], tolerance)


def test_signs_of_the_token_loss_and_its_stop() -> None:
    arguments = [torch.randn(4, requires_grad=True) for _ in range(4)]
    token_loss(*arguments, beta=0.1).sum().backward()
    chosen, rejected, chosen_kl, rejected_kl = (argument.grad for argument in arguments)
    assert (chosen < 0).all()
    assert (rejected > 0).all()
    assert chosen_kl is None
    assert (rejected_kl > 0).all()


def total(log_probs: dict[str, Tensor], reference: dict[str, Tensor]) -> Tensor:
    """The paper's objective on eight log-probabilities and the two divergences."""
    r = {name: log_probs[name] - reference[name] for name in reference}
    return (
        response_loss(r["chosen"], r["rejected"], r["irrelevant"], 0.1)
        + dpo_loss(r["chosen"], r["video_negative"], 0.1)
        + 0.4 * dpo_loss(r["clip"], r["clip_negative"], 0.1)
        + 0.2 * dpo_loss(r["object"], r["object_negative"], 0.1)
        + 0.1 * token_loss(r["chosen"], r["rejected"], log_probs["chosen_kl"], log_probs["rejected_kl"], 0.1)
    ).mean()


WON = ("chosen", "clip", "object")
LOST = ("rejected", "irrelevant", "video_negative", "clip_negative", "object_negative")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_total_starts_at_two_point_seven_log_two(dtype: torch.dtype) -> None:
    reference = {name: (-20 * torch.rand(3)).to(dtype) for name in WON + LOST}
    divergences = {"chosen_kl": torch.zeros(3, dtype=dtype), "rejected_kl": torch.zeros(3, dtype=dtype)}
    assert total(reference | divergences, reference).item() == pytest.approx(2.7 * math.log(2), abs=1e-6)


def test_every_log_probability_has_a_gradient_of_the_right_sign() -> None:
    reference = {name: -20 * torch.rand(3) for name in WON + LOST}
    policy = {name: (values + torch.randn(3)).requires_grad_() for name, values in reference.items()}
    divergences = {name: torch.rand(3, requires_grad=True) for name in ("chosen_kl", "rejected_kl")}
    total(policy | divergences, reference).backward()
    assert all((policy[name].grad < 0).all() for name in WON)
    assert all((policy[name].grad > 0).all() for name in LOST)


def test_a_negative_that_equals_its_video_teaches_nothing() -> None:
    log_prob = torch.tensor([-7.0, -3.0], requires_grad=True)
    reward = log_prob - torch.tensor([-6.0, -4.0])
    losses = dpo_loss(reward, reward, beta=0.1)
    losses.sum().backward()
    assert losses.tolist() == pytest.approx([math.log(2)] * 2)
    assert log_prob.grad.tolist() == [0, 0]
