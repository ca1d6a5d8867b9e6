"""What must hold for DenseDPO's loss whatever errors and labels are."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_modules.losses.flow import (
    dense_dpo_loss,
    dense_logits,
    dense_rewards,
    flow_dpo_loss,
    flow_logits,
    flow_rewards,
)
from tests.support.flow_errors import BETA, SEGMENTS, close, random_errors

LABELS = st.lists(st.sampled_from([-1, 0, 1]), min_size=9, max_size=9).map(
    lambda values: torch.tensor(values).view(3, 3)[:, SEGMENTS]
)
FORMS = st.sampled_from(["per_frame", "per_video"])
PROPERTY = settings(derandomize=True, deadline=None, max_examples=40)


@PROPERTY
@given(st.integers(0, 2**20), LABELS, FORMS)
def test_swapping_the_videos_and_negating_the_labels_changes_nothing(seed: int, labels: Tensor, form: Any) -> None:
    first, second, reference_first, reference_second = random_errors(seed)
    loss = dense_dpo_loss(first, second, reference_first, reference_second, labels, BETA, form, SEGMENTS)
    close(dense_dpo_loss(second, first, reference_second, reference_first, -labels, BETA, form, SEGMENTS), loss, 1e-14)
    whole = labels[:, 0]
    loss = flow_dpo_loss(first, second, reference_first, reference_second, whole, BETA)
    close(flow_dpo_loss(second, first, reference_second, reference_first, -whole, BETA), loss, 1e-14)


@PROPERTY
@given(st.integers(0, 2**20), LABELS, FORMS)
def test_ties_have_a_gradient_of_exactly_zero_whatever_their_error(seed: int, labels: Tensor, form: Any) -> None:
    errors = [error.requires_grad_() for error in random_errors(seed)]
    broken = [torch.where(labels == 0, torch.tensor(torch.nan).double(), error) for error in errors]
    loss = dense_dpo_loss(*broken, labels, BETA, form, SEGMENTS)
    loss.backward()
    assert loss.isfinite()
    for error in errors:
        assert (error.grad[labels == 0] == 0).all()
        assert error.grad.isfinite().all()
    assert (errors[0].grad.sign() == labels).all(), "the better video's error must fall, the worse one's rise"
    assert (errors[1].grad.sign() == -labels).all()


@PROPERTY
@given(st.integers(0, 2**20), LABELS, FORMS)
def test_a_global_denominator_makes_parts_add_up(seed: int, labels: Tensor, form: Any) -> None:
    errors = random_errors(seed)
    decided = (labels != 0).sum() if form == "per_frame" else (labels != 0).any(-1).sum()
    whole = dense_dpo_loss(*errors, labels, BETA, form, SEGMENTS)
    # Two ranks, with one and two pairs, and as many ties as may be; the mean over ranks takes the halves together.
    for denominator in (float(decided) / 2, decided / 2):
        parts = [
            dense_dpo_loss(*(e[rows] for e in errors), labels[rows], BETA, form, SEGMENTS, denominator)
            for rows in (slice(0, 1), slice(1, 3))
        ]
        close(sum(parts) / 2, whole, 1e-14)


@PROPERTY
@given(st.integers(0, 2**20))
def test_one_label_for_all_frames_is_never_cheaper_than_one_for_the_video(seed: int) -> None:
    errors, ones = random_errors(seed), torch.ones(3, 6)
    assert dense_dpo_loss(*errors, ones, BETA) >= flow_dpo_loss(*errors, ones[:, 0], BETA) - 1e-12


@PROPERTY
@given(st.integers(0, 2**20), LABELS, FORMS)
def test_logits_are_the_winners_rewards_minus_the_losers(seed: int, labels: Tensor, form: Any) -> None:
    first, second, reference_first, reference_second = random_errors(seed)
    decided, better = labels != 0, labels > 0
    winner = torch.where(better, first, second), torch.where(better, reference_first, reference_second)
    loser = torch.where(better, second, first), torch.where(better, reference_second, reference_first)
    chosen, rejected = (dense_rewards(*side, decided, BETA, form, SEGMENTS) for side in (winner, loser))
    errors = first, second, reference_first, reference_second
    close(chosen - rejected, dense_logits(*errors, labels, BETA, form, SEGMENTS), 1e-12)
    ones = torch.ones(3)
    chosen, rejected = flow_rewards(first, reference_first, BETA), flow_rewards(second, reference_second, BETA)
    close(chosen - rejected, flow_logits(*errors, ones, BETA), 1e-12)
