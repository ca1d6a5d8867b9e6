"""Flow-DPO and DenseDPO: published values and gradients, and their edges."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.dense.time_schedule import logit_normal_time, shift_time
from lightning_modules.losses.flow import (
    dense_dpo_loss,
    dense_logits,
    flow_dpo_loss,
    flow_logits,
    frame_errors,
    interpolate,
    velocity_target,
)
from tests.support.flow_errors import BETA, SEGMENTS, close, random_errors
from tests.support.goldens import golden

FLOW = golden("dense_2_flow_dpo")
DENSE = golden("dense_3_dense_dpo")
TIMES = golden("dense_7_time_norm")
PRECISIONS = [(torch.float64, 1e-10), (torch.float32, 1e-5)]
TYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def golden_video(name: str, dtype: torch.dtype = torch.float64) -> Tensor:
    """A golden video (B, F, C, H, W) in our layout (B, C, F, H, W)."""
    return torch.tensor(FLOW[name], dtype=dtype).transpose(1, 2)


class Pair:
    """The golden pair: velocities of the policy, which want a gradient, and the four errors."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        self.velocities = [golden_video(name, dtype).requires_grad_() for name in ("v0_pred", "v1_pred")]
        targets = [velocity_target(golden_video(name, dtype), golden_video("eps", dtype)) for name in ("x0", "x1")]
        references = [golden_video(name, dtype) for name in ("v0_ref", "v1_ref")]
        self.errors = [
            frame_errors(prediction, target)
            for prediction, target in zip(self.velocities + references, targets + targets, strict=True)
        ]

    def close_gradients(self, loss: Tensor, expected: dict[str, Any], tolerance: float) -> None:
        loss.backward()
        for velocity, name in zip(self.velocities, ("grad_v0", "grad_v1"), strict=True):
            close(velocity.grad.transpose(1, 2), expected[name], tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_noisy_videos_are_the_published_ones(dtype: torch.dtype, tolerance: float) -> None:
    for clean, noisy in (("x0", "xt0"), ("x1", "xt1")):
        time = torch.tensor(FLOW["t"], dtype=dtype)
        close(
            interpolate(golden_video(clean, dtype), golden_video("eps", dtype), time),
            golden_video(noisy, dtype),
            tolerance,
        )


@pytest.mark.parametrize("dtype", TYPES)
def test_noising_keeps_the_type_and_its_ends_exactly(dtype: torch.dtype) -> None:
    clean, noise = torch.randn(2, 2, 3, 4, 2, 2).to(dtype)
    noisy = interpolate(clean, noise, torch.tensor([0.0, 1.0]))
    assert noisy.dtype == dtype
    assert torch.equal(noisy[0], clean[0])
    assert torch.equal(noisy[1], noise[1])
    target = velocity_target(clean, noise)
    assert target.dtype == dtype
    close(target.double(), noise.double() - clean.double(), 4 * torch.finfo(dtype).eps)


def test_the_target_leads_from_a_noisy_video_to_both_ends() -> None:
    clean, noise, time = torch.randn(2, 3, 4, 2, 2).double(), torch.randn(2, 3, 4, 2, 2).double(), torch.rand(2)
    noisy, velocity, t = (
        interpolate(clean, noise, time),
        velocity_target(clean, noise),
        time.double().view(2, 1, 1, 1, 1),
    )
    close(noisy - t * velocity, clean)
    close(noisy + (1 - t) * velocity, noise)


def test_times_are_logit_normal_and_shift_towards_noise() -> None:
    for case in TIMES["logit_normal"]:
        time = logit_normal_time(torch.tensor(case["z"], dtype=torch.float64), case["mean"], case["std"])
        close(time, case["t"])
        close(shift_time(time, 3), case["t_shift3"])
        close(shift_time(time, 5), case["t_shift5"])
    close(logit_normal_time(torch.tensor(2.0), mean=1.0, std=0.5), 1 / (1 + math.exp(-2)), 1e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
def test_flow_dpo_is_the_published_one(dtype: torch.dtype, tolerance: float) -> None:
    pair, label = Pair(dtype), torch.tensor(FLOW["label"])
    close(flow_logits(*pair.errors, label, BETA), FLOW["z"], 10 * tolerance)
    loss = flow_dpo_loss(*pair.errors, label, BETA)
    assert loss.dtype == dtype
    close(loss, FLOW["loss"], tolerance)
    pair.close_gradients(loss, FLOW, tolerance)


def test_flow_dpo_takes_a_beta_that_falls_with_time() -> None:
    pair, label, expected = Pair(), torch.tensor(FLOW["label"]), FLOW["time_dependent_beta"]
    beta = BETA * (1 - torch.tensor(FLOW["t"], dtype=torch.float64)) ** 2
    close(flow_logits(*pair.errors, label, beta), expected["z"])
    close(flow_dpo_loss(*pair.errors, label, beta), expected["loss"])


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("label_type", [torch.int8, torch.int64, torch.float32])
def test_dense_dpo_is_the_papers_appendix(dtype: torch.dtype, tolerance: float, label_type: torch.dtype) -> None:
    pair, expected = Pair(dtype), DENSE["frame"]
    close(pair.errors[0] - pair.errors[2], DENSE["s0_frame"], tolerance)
    close(pair.errors[1] - pair.errors[3], DENSE["s1_frame"], tolerance)
    labels = torch.tensor(expected["labels"]).to(label_type)
    close(dense_logits(*pair.errors, labels, BETA), expected["z"], 10 * tolerance)
    loss = dense_dpo_loss(*pair.errors, labels, BETA)
    assert loss.dtype == dtype
    close(loss, expected["loss"], tolerance)
    pair.close_gradients(loss, expected, tolerance)
    ties = labels == 0
    for velocity in pair.velocities:
        assert (velocity.grad.transpose(1, 2)[ties] == 0).all()
        assert (velocity.grad.transpose(1, 2)[~ties] != 0).any()


def test_dense_dpo_on_segments_is_the_published_one() -> None:
    pair, expected = Pair(), DENSE["segments"]
    labels = torch.tensor(expected["labels_expanded_to_latents"])
    segments = torch.tensor(expected["seg_of_latent"])
    per_video = {"form": "per_video", "segments_BF": segments.expand(2, -1)}
    close(dense_dpo_loss(*pair.errors, labels, BETA), expected["frame_loss_on_expanded"])
    close(dense_dpo_loss(*pair.errors, labels, BETA, segments_BF=segments), expected["frame_loss_on_expanded"])
    close(dense_logits(*pair.errors, labels, BETA, **per_video), expected["eq7_half1"]["z"])
    close(dense_dpo_loss(*pair.errors, labels, BETA, **per_video), expected["eq7_half1"]["loss"])
    close(dense_dpo_loss(*pair.errors, labels, BETA / 2, **per_video), expected["eq7_half05"]["loss"])
    close(dense_dpo_loss(*pair.errors, labels, BETA, "per_video", 7 - segments), expected["eq7_half1"]["loss"])


def test_published_properties() -> None:
    pair, expected = Pair(), DENSE["properties"]
    ones = torch.ones(2, 5)
    close(dense_dpo_loss(*pair.errors, ones, BETA), expected["all_labels_plus1_dense_loss"])
    close(flow_dpo_loss(*pair.errors, ones[:, 0], BETA), expected["all_labels_plus1_flow_loss"])


@pytest.mark.parametrize("dtype", TYPES)
def test_policy_equal_to_reference_costs_log_two_in_every_type(dtype: torch.dtype) -> None:
    first, second = random_errors(3, dtype)[:2]
    errors, labels = (first, second, first, second), torch.tensor([[1, 0, -1, 0, 1, 1]] * 3)
    losses = [
        flow_dpo_loss(*errors, labels[:, 0], BETA),
        dense_dpo_loss(*errors, labels, BETA),
        dense_dpo_loss(*errors, labels, BETA, "per_video", SEGMENTS),
    ]
    for loss in losses:
        assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert loss.item() == pytest.approx(math.log(2), abs=1e-6)


def test_equal_labels_teach_the_same_at_the_start_whether_per_frame_or_per_video() -> None:
    gradients = []
    for labels, loss in ((torch.ones(3), flow_dpo_loss), (torch.ones(3, 6), dense_dpo_loss)):
        base = random_errors(5)[:2]
        policy = [error.clone().requires_grad_() for error in base]
        loss(*policy, *base, labels, BETA).backward()
        gradients.append(torch.stack([error.grad for error in policy]))
    close(*gradients, 1e-12)


@pytest.mark.parametrize("denominator", [None, 1.0, 0.0, 4, torch.tensor(0)])
def test_only_ties_are_exactly_nothing_with_a_graph(denominator: Any) -> None:
    errors, ties = [error.requires_grad_() for error in random_errors(7)], torch.zeros(3, 6)
    for loss in (
        flow_dpo_loss(*errors, ties[:, 0], BETA, denominator),
        dense_dpo_loss(*errors, ties, BETA, denominator=denominator),
        dense_dpo_loss(*errors, ties, BETA, "per_video", SEGMENTS, denominator),
    ):
        assert loss.item() == 0
        loss.backward()
        assert all((error.grad == 0).all() for error in errors)


def test_large_errors_stay_finite_and_keep_their_gradient() -> None:
    first = torch.tensor([[1e4, -1e4]], requires_grad=True)
    zeros = torch.zeros(1, 2)
    loss = dense_dpo_loss(first, zeros, zeros, zeros, torch.ones(1, 2), BETA)
    assert loss.item() == pytest.approx(1.25e6)
    loss.backward()
    assert first.grad.tolist() == [[pytest.approx(125.0), 0]]


def test_errors_are_taken_in_float32() -> None:
    prediction = torch.full((1, 2, 3, 2, 2), 1 + 2**-7, dtype=torch.bfloat16)
    errors = frame_errors(prediction, torch.ones_like(prediction))
    assert errors.dtype == torch.float32
    assert errors.tolist() == [[2**-14] * 3]


def test_a_form_without_its_segments_or_without_a_name_is_refused() -> None:
    errors, ones = random_errors(1), torch.ones(3, 6)
    with pytest.raises(ValueError, match="segments_BF"):
        dense_dpo_loss(*errors, ones, BETA, "per_video")
    with pytest.raises(ValueError, match="'per_clip'"):
        dense_dpo_loss(*errors, ones, BETA, "per_clip", SEGMENTS)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="reduction 'none' must be mean, or none without a denominator"):
        dense_dpo_loss(*errors, ones, BETA, denominator=2.0, reduction="none")
    with pytest.raises(ValueError, match="reduction 'sum' must be mean"):
        flow_dpo_loss(*errors, ones[:, 0], BETA, reduction="sum")  # type: ignore[arg-type]


def test_item_values_are_those_whose_mean_is_published() -> None:
    pair, flow, frame = Pair(), torch.tensor(FLOW["label"]), torch.tensor(DENSE["frame"]["labels"])
    values = flow_dpo_loss(*pair.errors, flow, BETA, reduction="none")
    assert values.shape == (2,)
    close(values[flow != 0].mean(), FLOW["loss"])
    values = dense_dpo_loss(*pair.errors, frame, BETA, reduction="none")
    assert values.shape == (2, 5)
    assert (values[frame == 0] == 0).all()
    logits = torch.tensor(DENSE["frame"]["z"], dtype=torch.float64)
    close(values[frame != 0], -torch.nn.functional.logsigmoid(logits)[frame != 0])
    pair.close_gradients(values[frame != 0].mean(), DENSE["frame"], 1e-10)
    segments = torch.tensor(DENSE["segments"]["seg_of_latent"])
    labels = torch.tensor(DENSE["segments"]["labels_expanded_to_latents"])
    values = dense_dpo_loss(*pair.errors, labels, BETA, "per_video", segments, reduction="none")
    assert values.shape == (2,)
    close(values[labels.any(-1)].mean(), DENSE["segments"]["eq7_half1"]["loss"])
